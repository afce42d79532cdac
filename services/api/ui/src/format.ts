// Numbers, times and lengths of time as people read them.

const NUMBER = new Intl.NumberFormat("en");

export const count = (value: number) => NUMBER.format(value);

export function rate(value: number): string {
  if (value === 0) return "0";
  if (value < 0.1) return "<0.1";
  return value < 10 ? value.toFixed(1) : count(Math.round(value));
}

export function bytes(value: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function span(ms: number): string {
  if (ms < 0) ms = 0;
  if (ms < 1) return "0 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172_800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86_400)} days`;
}

const two = (n: number) => String(n).padStart(2, "0");

/** 14:03:22.091 in the viewer's own zone. */
export function clock(time: string | number | null | undefined, millis = true): string {
  if (time === null || time === undefined) return "–";
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "–";
  const text = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return millis ? `${text}.${String(at.getMilliseconds()).padStart(3, "0")}` : text;
}

export function date(time: string | number | null | undefined): string {
  if (time === null || time === undefined) return "–";
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "–";
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(time, false)}`;
}

/** Clock of today, date and clock of another day. */
export function when(time: string | number | null | undefined): string {
  if (time === null || time === undefined) return "–";
  return new Date(time).toDateString() === new Date().toDateString() ? clock(time) : date(time);
}

export function ago(time: string | number, now = Date.now()): string {
  const ms = now - new Date(time).getTime();
  return ms < 0 ? `in ${span(-ms)}` : `${span(ms)} ago`;
}

/** What a subscription asks of an event: paths and conditions as JSON, or a text in CEL; "" for nothing. */
export function conditions(where: Record<string, unknown> | string): string {
  if (typeof where === "string") return where;
  return Object.keys(where).length ? JSON.stringify(where) : "";
}

export function short(id: string, length = 13): string {
  return id.length > length ? `${id.slice(0, length - 1)}…` : id;
}
