// Small things that every page is made of.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

const TONES: Record<string, string> = {
  ok: "ok", succeeded: "ok", completed: "ok", ready: "ok", alive: "ok",
  degraded: "warn", warning: "warn", retrying: "warn", unrouted: "warn", expired: "warn",
  failing: "bad", failed: "bad", error: "bad", "dead letter": "bad",
  running: "info", started: "info", "in progress": "info", published: "info",
  held: "hold", waiting: "hold", pending: "hold", paused: "hold",
};

export function Badge({ state, label }: { state: string; label?: string }) {
  return (
    <span class={`badge tone-${TONES[state] ?? "plain"}`}>
      <span class="dot" aria-hidden="true" />
      {label ?? state}
    </span>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <p>{children}</p>}
    </div>
  );
}

export function Trouble({ text, again }: { text: string; again?: () => void }) {
  if (!text) return null;
  return (
    <div class="trouble" role="alert">
      <span>{text}</span>
      {again && (
        <button class="button small" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Panel(props: {
  title?: ComponentChildren;
  side?: ComponentChildren;
  class?: string;
  flush?: boolean;
  children: ComponentChildren;
}) {
  return (
    <section class={`panel ${props.class ?? ""}`}>
      {(props.title || props.side) && (
        <header class="panel-head">
          <h2>{props.title}</h2>
          {props.side && <div class="panel-side">{props.side}</div>}
        </header>
      )}
      <div class={props.flush ? "panel-body flush" : "panel-body"}>{props.children}</div>
    </section>
  );
}

export function PageHead(props: { title: ComponentChildren; note?: ComponentChildren; children?: ComponentChildren }) {
  return (
    <header class="page-head">
      <div>
        <h1>{props.title}</h1>
        {props.note && <p class="note">{props.note}</p>}
      </div>
      {props.children && <div class="page-tools">{props.children}</div>}
    </header>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <button
      class="button quiet small"
      aria-label={`${label}: ${text}`}
      onClick={() => {
        void navigator.clipboard?.writeText(text).then(() => {
          setDone(true);
          setTimeout(() => setDone(false), 1200);
        });
      }}
    >
      {done ? "Copied" : label}
    </button>
  );
}

const MOST_SHOWN = 200_000;

/** A value of somebody else's, as text. */
export function Json({ value, label }: { value: unknown; label: string }) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "–";
  const shown = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}\n… ${text.length - MOST_SHOWN} more characters` : text;
  return (
    <pre class="json" tabIndex={0} role="region" aria-label={label}>
      {shown}
    </pre>
  );
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value ?? "–"}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Sparkline({ points, label, tone = "accent" }: { points: number[]; label: string; tone?: string }) {
  const most = Math.max(1, ...points);
  const width = 100;
  const height = 24;
  const step = width / Math.max(1, points.length - 1);
  const line = points.map((n, i) => `${(i * step).toFixed(1)},${(height - 1 - (n / most) * (height - 3)).toFixed(1)}`);
  return (
    <svg class={`spark spark-${tone}`} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <polygon points={`0,${height} ${line.join(" ")} ${width},${height}`} class="spark-area" />
      <polyline points={line.join(" ")} class="spark-line" />
    </svg>
  );
}
