// One stream of notifications for the whole tab. Everything kept has a bound; pages are told at most four times
// a second, whatever comes in, so that ten thousand notifications a minute stay readable and cheap.
import { signal } from "@preact/signals";
import { key } from "./api";
import { follow, type Frame, type StreamState } from "./stream";
import type { Note } from "./types";

const TOLD_EVERY_MS = 250;
const NOTES_KEPT = 1_000;
const EVENTS_KEPT = 2_000;
const INBOX = 5_000;
const SECONDS = 60;
const SERIES = 500;

export interface LiveEvent {
  id: string;
  source: string;
  type: string;
  subject: string | null;
  time: string;
  state: string;
  tasks: number;
  failed: number;
}

export const state = signal<StreamState>("connecting");
export const detail = signal("");
export const version = signal(0); // another number whenever there is something new

/** Said by a component that shows what is kept here, so that it is drawn again when there is something new. */
export function beat(): number {
  return version.value;
}

export const resyncs = signal(0);
export const skipped = signal(0); // notifications that were counted and not shown

/** Counts by second of the last minute, by name. */
class Series {
  private readonly rings = new Map<string, { counts: Uint32Array; second: number; used: number }>();

  add(name: string, n = 1): void {
    const now = seconds();
    let ring = this.rings.get(name);
    if (!ring) {
      if (this.rings.size >= SERIES) this.forget();
      ring = { counts: new Uint32Array(SECONDS), second: now, used: now };
      this.rings.set(name, ring);
    }
    this.advance(ring, now);
    ring.counts[now % SECONDS]! += n;
    ring.used = now;
  }

  /** A second over the last whole seconds. */
  rate(name: string, over = 10): number {
    const points = this.points(name);
    const last = points.slice(-over - 1, -1);
    return last.reduce((sum, n) => sum + n, 0) / over;
  }

  total(name: string): number {
    return this.points(name).reduce((sum, n) => sum + n, 0);
  }

  points(name: string): number[] {
    const ring = this.rings.get(name);
    if (!ring) return new Array<number>(SECONDS).fill(0);
    const now = seconds();
    this.advance(ring, now);
    return Array.from({ length: SECONDS }, (_, i) => ring.counts[(now + 1 + i) % SECONDS]!);
  }

  names(prefix: string): string[] {
    return [...this.rings.keys()].filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  }

  clear(): void {
    this.rings.clear();
  }

  private advance(ring: { counts: Uint32Array; second: number }, now: number): void {
    const behind = Math.min(now - ring.second, SECONDS);
    for (let i = 1; i <= behind; i += 1) ring.counts[(ring.second + i) % SECONDS] = 0;
    if (behind > 0) ring.second = now;
  }

  private forget(): void {
    let oldest: string | undefined;
    let at = Infinity;
    for (const [name, ring] of this.rings) if (ring.used < at) [oldest, at] = [name, ring.used];
    if (oldest !== undefined) this.rings.delete(oldest);
  }
}

const seconds = () => Math.floor(Date.now() / 1000);

export const series = new Series();
export const notes: Note[] = []; // newest last
export const events = new Map<string, LiveEvent>(); // by identity, in the order in which they came

let inbox: Note[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;
let stop: (() => void) | undefined;
const watchers = new Set<(notes: Note[]) => void>();

/** Hear every notification, some at a time. */
export function watch(heard: (notes: Note[]) => void): () => void {
  watchers.add(heard);
  return () => watchers.delete(heard);
}

export const domainOf = (type: string) => type.split(".", 1)[0] ?? type;
export const identity = (source: string, id: string) => `${source}\n${id}`;

function take(frames: Frame[]): void {
  for (const frame of frames) {
    if (frame.event === "closed") continue;
    if (frame.event === "resync") {
      resyncs.value += 1;
      continue;
    }
    let note: Note;
    try {
      note = JSON.parse(frame.data) as Note;
    } catch {
      continue;
    }
    countIn(note);
    inbox.push(note);
  }
  if (inbox.length > INBOX) {
    skipped.value += inbox.length - INBOX;
    inbox = inbox.slice(-INBOX);
  }
  timer ??= setTimeout(() => requestAnimationFrame(flush), TOLD_EVERY_MS);
}

function countIn(note: Note): void {
  series.add("all");
  series.add(`type:${note.type}`);
  const { event, task } = note;
  if (task) {
    series.add(`service:${task.service}:${note.type}`);
    if (event && note.type === "task.queued") series.add(`want:${domainOf(event.type)}>${task.service}`);
  }
  if (!event) return;
  const known = events.get(identity(event.source, event.id));
  if (known) {
    if (note.type === "task.queued") known.tasks += 1;
    if (note.type === "task.failed") known.failed += 1;
    known.state = standing(known, note);
    return;
  }
  const starts = note.type === "task.queued" || note.type === "event.unrouted" || note.type === "task.held";
  if (starts) {
    series.add("events");
    series.add(`source:${event.source}`);
    series.add(`domain:${domainOf(event.type)}`);
    series.add(`from:${event.source}>${domainOf(event.type)}`);
  }
  const seen: LiveEvent = { ...event, time: note.time, state: "running", tasks: starts ? 1 : 0, failed: 0 };
  seen.state = standing(seen, note);
  if (note.type === "event.unrouted") seen.tasks = 0;
  events.set(identity(event.source, event.id), seen);
  if (events.size > EVENTS_KEPT) events.delete(events.keys().next().value as string);
}

function standing(event: LiveEvent, note: Note): string {
  if (note.type === "event.unrouted") return "unrouted";
  if (note.type === "event.completed") {
    const failed = Number((note.data as { failed?: number }).failed ?? 0);
    return failed ? "failed" : "completed";
  }
  if (note.type === "task.retrying") return "retrying";
  if (note.type === "task.held") return "held";
  if (note.type === "task.pending") return "pending";
  return event.state === "completed" || event.state === "failed" ? event.state : "running";
}

function flush(): void {
  timer = undefined;
  const fresh = inbox;
  inbox = [];
  notes.push(...fresh);
  if (notes.length > NOTES_KEPT) notes.splice(0, notes.length - NOTES_KEPT);
  for (const heard of watchers) heard(fresh);
  version.value += 1;
}

/** Begin to listen with the key that is signed in. */
export function begin(): void {
  end();
  if (!key.value) return;
  stop = follow({
    path: "v1/notifications",
    frames: take,
    state: (now, why) => {
      state.value = now;
      detail.value = why;
    },
  });
}

export function end(): void {
  stop?.();
  stop = undefined;
  clearTimeout(timer);
  timer = undefined;
  inbox = [];
  notes.length = 0;
  events.clear();
  series.clear();
}
