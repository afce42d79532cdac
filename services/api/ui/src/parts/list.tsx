// A table of any length of which only what is seen is in the page.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useNarrow, useSize } from "./hooks";

export interface Column<R> {
  name: string;
  width: string; // of a grid's track
  cell: (row: R) => ComponentChildren;
  class?: string;
  phone?: boolean; // whether a phone shows it; all are shown elsewhere
}

interface Listing<R> {
  label: string;
  columns: Column<R>[];
  rows: R[];
  id: (row: R) => string;
  href?: (row: R) => string | undefined;
  atEnd?: () => void;
  empty?: ComponentChildren;
  height?: string;
  class?: string;
  foot?: ComponentChildren;
}

const BESIDE = 6;

export function List<R>(props: Listing<R>) {
  const narrow = useNarrow();
  const { element, height } = useSize<HTMLDivElement>();
  const [top, setTop] = useState(0);
  const waiting = useRef(false);
  const rowHeight = narrow ? 60 : 40;
  const columns = narrow ? props.columns.filter((one) => one.phone !== false) : props.columns;
  const tracks = columns.map((one) => one.width).join(" ");
  const first = Math.max(0, Math.floor(top / rowHeight) - BESIDE);
  const seen = Math.ceil((height || 480) / rowHeight) + 2 * BESIDE;
  const rows = props.rows.slice(first, first + seen);

  useEffect(() => {
    waiting.current = false;
  }, [props.rows.length]);

  const scrolled = (event: Event) => {
    const at = event.currentTarget as HTMLElement;
    setTop(at.scrollTop);
    if (props.atEnd && !waiting.current && at.scrollTop + at.clientHeight > at.scrollHeight - 10 * rowHeight) {
      waiting.current = true;
      props.atEnd();
    }
  };

  const keys = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (!step || event.metaKey || event.ctrlKey || event.altKey) return;
    const links = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("a.row-link")];
    const at = links.indexOf(document.activeElement as HTMLElement);
    const next = links[at < 0 ? 0 : at + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  };

  if (!props.rows.length && props.empty) return <>{props.empty}</>;
  return (
    <div class={`list ${props.class ?? ""}`} role="table" aria-label={props.label} aria-rowcount={props.rows.length + 1}>
      <div role="rowgroup">
        <div class="list-head" role="row" aria-rowindex={1} style={{ gridTemplateColumns: tracks }}>
          {columns.map((one) => (
            <span role="columnheader" key={one.name} class={one.class}>
              {one.name}
            </span>
          ))}
        </div>
      </div>
      <div
        class="list-body"
        role="rowgroup"
        ref={element}
        tabIndex={0}
        style={{ height: props.height ?? `${Math.min(props.rows.length * rowHeight, 620)}px` }}
        onScroll={scrolled}
        onKeyDown={keys}
      >
        <div class="list-space" role="presentation" style={{ height: `${props.rows.length * rowHeight}px` }}>
          {rows.map((row, i) => {
            const href = props.href?.(row);
            const at = first + i;
            const place = { transform: `translateY(${at * rowHeight}px)`, height: `${rowHeight}px`, gridTemplateColumns: tracks };
            const cells = columns.map((one, n) => (
              <span role="cell" key={one.name} class={one.class}>
                {href && n === 0 ? (
                  <a class="row-link" href={href}>
                    {one.cell(row)}
                  </a>
                ) : (
                  one.cell(row)
                )}
              </span>
            ));
            return (
              <div class={href ? "row linked" : "row"} role="row" aria-rowindex={at + 2} key={props.id(row)} style={place}>
                {cells}
              </div>
            );
          })}
        </div>
      </div>
      {props.foot && <div class="list-foot">{props.foot}</div>}
    </div>
  );
}
