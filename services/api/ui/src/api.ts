// The public API: one way to ask, one kind of error. The key lives in sessionStorage, so it ends with the tab.
import { signal } from "@preact/signals";

export interface Refusal {
  type: string;
  title: string;
  status: number;
  detail: string;
  request_id?: string;
  errors?: { detail: string; pointer?: string; parameter?: string; header?: string }[];
  [member: string]: unknown;
}

export class ApiError extends Error {
  constructor(readonly problem: Refusal) {
    super(problem.detail || problem.title);
  }
}

export interface KeyInfo {
  name: string;
  role: "operator" | "viewer" | "limited";
  admin: boolean;
  publish: string[];
  subscribe: string[];
  sources: string[];
  rate: number | null;
  expires_at: string | null;
}

export type Query = Record<string, string | number | boolean | null | undefined>;

const STORED = "streammesh.key";
const ROOT = new URL("..", location.href.split("#")[0]);

export const key = signal<KeyInfo | null>(null);
export const signedOut = signal<string>("");
let secret = "";

export function address(path: string, query: Query = {}): string {
  const url = new URL(path.replace(/^\//, ""), ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, String(value));
  }
  return url.toString();
}

export function authorization(): Record<string, string> {
  return { authorization: `Bearer ${secret}` };
}

/** Try a key; keep it for this tab where it is one. Raises ApiError. */
export async function signIn(candidate: string): Promise<void> {
  const before = secret;
  secret = candidate.trim();
  try {
    key.value = await ask<KeyInfo>("GET", "v1/key");
  } catch (error) {
    secret = before;
    throw error;
  }
  signedOut.value = "";
  sessionStorage.setItem(STORED, secret);
}

/** Take up the key of this tab, if it has one. */
export async function resume(): Promise<void> {
  const kept = sessionStorage.getItem(STORED);
  if (kept) await signIn(kept);
}

export function hasStoredKey(): boolean {
  return sessionStorage.getItem(STORED) !== null;
}

export function signOut(why = ""): void {
  secret = "";
  key.value = null;
  signedOut.value = why;
  sessionStorage.removeItem(STORED);
}

export async function ask<T>(
  method: string,
  path: string,
  options: { query?: Query; body?: unknown; signal?: AbortSignal; type?: string } = {},
): Promise<T> {
  const headers: Record<string, string> = authorization();
  if (options.body !== undefined) headers["content-type"] = options.type ?? "application/json";
  let answer: Response;
  try {
    answer = await fetch(address(path, options.query), {
      method,
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError({ type: "offline", title: "No answer", status: 0, detail: "The API does not answer." });
  }
  if (answer.ok) return (await answer.json()) as T;
  const problem = await refusal(answer);
  if (answer.status === 401 && key.value) signOut("The API key is not valid any more.");
  throw new ApiError(problem);
}

export async function refusal(answer: Response): Promise<Refusal> {
  try {
    const found = (await answer.json()) as Refusal;
    if (typeof found.detail === "string") return found;
  } catch {
    // not ours: a proxy's page
  }
  return { type: "", title: answer.statusText, status: answer.status, detail: `The answer was ${answer.status}.` };
}

export const get = <T>(path: string, query?: Query, signal?: AbortSignal) => ask<T>("GET", path, { query, signal });
export const post = <T>(path: string, body?: unknown, query?: Query) => ask<T>("POST", path, { body, query });

/** What went wrong, in one sentence. */
export function told(error: unknown): string {
  if (error instanceof ApiError) {
    const first = error.problem.errors?.[0];
    return first && !error.message.includes(first.detail) ? `${error.message} ${first.detail}` : error.message;
  }
  return error instanceof Error ? error.message : String(error);
}
