// Where one is: behind the #, so that one file serves every page and links can be sent.
import { signal } from "@preact/signals";

export interface Place {
  page: string;
  id: string;
  query: URLSearchParams;
}

export const place = signal<Place>(read());

function read(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/");
  return { page: page || "overview", id: decoded(rest.join("/")), query: new URLSearchParams(query) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => {
  const before = place.value;
  place.value = read();
  if (before.page !== place.value.page || before.id !== place.value.id) {
    scrollTo(0, 0);
    document.getElementById("main")?.focus({ preventScroll: true });
  }
});

export function link(page: string, id = "", query: Record<string, string | null | undefined> = {}): string {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) words.set(name, value);
  const asked = words.toString();
  return `#/${page}${id ? `/${encodeURIComponent(id)}` : ""}${asked ? `?${asked}` : ""}`;
}

export function go(page: string, id = "", query: Record<string, string | null | undefined> = {}): void {
  location.hash = link(page, id, query);
}

/** Another query on the same page, without a step in the history. */
export function refine(query: Record<string, string | null | undefined>): void {
  const { page, id } = place.value;
  history.replaceState(null, "", link(page, id, query));
  place.value = read();
}
