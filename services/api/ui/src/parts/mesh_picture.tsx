// Publishers, streams, services and push in four columns, with what flows between them.
import { count, rate, span } from "../format";
import { beat, domainOf, series } from "../live";
import { link } from "../router";
import type { Service, Status } from "../types";
import { useNarrow, useSize } from "./hooks";

interface Card {
  key: string;
  name: string;
  figures: string;
  pace: number;
  tone: string;
  href?: string;
}

interface Edge {
  from: string;
  to: string;
  pace: number;
}

const HIGH = 58;
const GAP = 12;
const MOST = 9;
const TITLES = ["Publishers", "Streams", "Services", "Push"];

export function MeshPicture({ status }: { status: Status }) {
  beat();
  const narrow = useNarrow();
  const { element, width } = useSize<HTMLDivElement>();
  const columns = cards(status);
  const deepest = Math.max(1, ...columns.map((one) => one.length));
  const height = deepest * (HIGH + GAP) - GAP;
  const wide = Math.max(0, (width - 3 * Math.max(40, width * 0.07)) / 4);
  const between = Math.max(40, width * 0.07);
  const at = new Map<string, { left: number; top: number }>();
  columns.forEach((column, i) => {
    const offset = (height - (column.length * (HIGH + GAP) - GAP)) / 2;
    column.forEach((card, n) => at.set(card.key, { left: i * (wide + between), top: offset + n * (HIGH + GAP) }));
  });
  if (narrow) {
    return (
      <div class="mesh narrow">
        {columns.map((column, i) => (
          <div class="mesh-column" key={TITLES[i]}>
            <h3>{TITLES[i]}</h3>
            {column.map((card) => (
              <MeshCard card={card} key={card.key} />
            ))}
          </div>
        ))}
      </div>
    );
  }
  return (
    <div class="mesh">
      <div class="mesh-titles" aria-hidden="true">
        {TITLES.map((title) => (
          <span key={title}>{title}</span>
        ))}
      </div>
      <div class="mesh-space" ref={element} style={{ height: `${height}px` }}>
        <svg class="mesh-edges" width={width} height={height} aria-hidden="true">
          {edges(status, columns).map((edge) => {
            const from = at.get(edge.from);
            const to = at.get(edge.to);
            if (!from || !to) return null;
            const x = from.left + wide;
            const y = from.top + HIGH / 2;
            const y2 = to.top + HIGH / 2;
            const bend = (to.left - x) / 2;
            return (
              <path
                key={`${edge.from} ${edge.to}`}
                class={edge.pace > 0 ? "edge busy" : "edge"}
                stroke-width={(1 + Math.min(4, Math.log2(1 + edge.pace))).toFixed(1)}
                d={`M${x} ${y}C${x + bend} ${y} ${to.left - bend} ${y2} ${to.left} ${y2}`}
              />
            );
          })}
        </svg>
        {columns.flat().map((card) => {
          const where = at.get(card.key)!;
          return (
            <div class="mesh-place" key={card.key} style={{ left: `${where.left}px`, top: `${where.top}px`, width: `${wide}px` }}>
              <MeshCard card={card} />
            </div>
          );
        })}
      </div>
    </div>
  );
}

function MeshCard({ card }: { card: Card }) {
  const inside = (
    <>
      <span class={`mesh-dot tone-${card.tone}`} aria-hidden="true" />
      <span class="mesh-name" title={card.name}>
        {card.name}
      </span>
      <span class="mesh-pace">{card.pace ? `${rate(card.pace)}/s` : ""}</span>
      <span class="mesh-figures">{card.figures}</span>
    </>
  );
  return card.href ? (
    <a class="mesh-card" href={card.href}>
      {inside}
    </a>
  ) : (
    <div class="mesh-card">{inside}</div>
  );
}

const events = (n: number) => `${count(n)} ${n === 1 ? "event" : "events"}`;

function busiest(names: Iterable<string>, pace: (name: string) => number): { shown: string[]; more: number } {
  const all = [...new Set(names)].sort((a, b) => pace(b) - pace(a) || (a < b ? -1 : 1));
  return { shown: all.slice(0, MOST), more: Math.max(0, all.length - MOST) };
}

function more(kind: string, n: number): Card[] {
  return n ? [{ key: `more:${kind}`, name: `and ${n} more`, figures: "", pace: 0, tone: "plain", href: kind === "service" ? link("services") : undefined }] : [];
}

function cards(status: Status): Card[][] {
  const pace = (name: string) => series.rate(name);
  const sources = busiest(series.names("source:"), (name) => pace(`source:${name}`));
  const known = (status.streams ?? []).filter((one) => one.kept || one.published).map((one) => one.domain);
  const domains = busiest([...known, ...series.names("domain:")], (name) => pace(`domain:${name}`));
  const streams = new Map((status.streams ?? []).map((one) => [one.domain, one]));
  const services = busiest(status.services.map((one) => one.service), (name) => pace(`service:${name}:task.succeeded`));
  const byName = new Map(status.services.map((one) => [one.service, one]));
  const all = pace("all");
  return [
    [
      ...sources.shown.map((name) => ({ key: `source:${name}`, name, figures: `${events(series.total(`source:${name}`))}, last minute`, pace: pace(`source:${name}`), tone: "info" })),
      ...(sources.shown.length ? [] : [{ key: "source:", name: "nobody", figures: "published in the last minute", pace: 0, tone: "plain" }]),
      ...more("source", sources.more),
    ],
    [
      ...domains.shown.map((name) => {
        const stream = streams.get(name);
        return { key: `domain:${name}`, name, figures: stream ? `${events(stream.kept)} kept` : "", pace: pace(`domain:${name}`), tone: "info", href: link("events", "", { type: `${name}.*` }) };
      }),
      ...more("domain", domains.more),
    ],
    [...services.shown.map((name) => serviceCard(byName.get(name)!)), ...more("service", services.more)],
    [{ key: "push", name: "Clients", figures: `${status.apis} API ${status.apis === 1 ? "process" : "processes"}`, pace: all, tone: status.apis ? "ok" : "bad" }],
  ];
}

function serviceCard(one: Service): Card {
  const waits = one.lag + one.waiting;
  const oldest = one.oldest_waiting_seconds ?? 0;
  const failed = series.total(`service:${one.service}:task.failed`);
  const parts = [`${one.workers} ${one.workers === 1 ? "worker" : "workers"}`, `${count(waits)} waiting`];
  if (waits && oldest >= 1) parts.push(span(oldest * 1000));
  if (failed) parts.push(`${failed} failed`);
  const tone = !one.workers ? "bad" : failed || oldest > 60 ? "warn" : "ok";
  return {
    key: `service:${one.service}`,
    name: one.service,
    figures: parts.join(" · "),
    pace: series.rate(`service:${one.service}:task.succeeded`),
    tone,
    href: link("services", one.service),
  };
}

function edges(status: Status, columns: Card[][]): Edge[] {
  const shown = new Set(columns.flat().map((one) => one.key));
  const found: Edge[] = [];
  for (const name of series.names("from:")) {
    const cut = name.lastIndexOf(">");
    found.push({ from: `source:${name.slice(0, cut)}`, to: `domain:${name.slice(cut + 1)}`, pace: series.rate(`from:${name}`) });
  }
  for (const one of status.services) {
    const wanted = new Set<string>();
    for (const { type } of one.subscriptions) {
      const domain = domainOf(type);
      if (!/[*?[]/.test(domain)) wanted.add(domain);
      else for (const key of shown) if (key.startsWith("domain:")) wanted.add(key.slice(7));
    }
    for (const domain of wanted) {
      found.push({ from: `domain:${domain}`, to: `service:${one.service}`, pace: series.rate(`want:${domain}>${one.service}`) });
    }
    const pace = series.rate(`service:${one.service}:task.succeeded`);
    if (one.registered) found.push({ from: `service:${one.service}`, to: "push", pace });
  }
  return found.filter((edge) => shown.has(edge.from) && shown.has(edge.to));
}
