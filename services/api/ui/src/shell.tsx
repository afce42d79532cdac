// What stands around every page: navigation, where the mesh stands, who is signed in.
import type { ComponentChildren, FunctionComponent } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, key, signOut } from "./api";
import * as live from "./live";
import { Audit } from "./pages/audit";
import { DeadLetters } from "./pages/dead_letters";
import { EventPage } from "./pages/event";
import { Events } from "./pages/events";
import { ApiKeys } from "./pages/keys";
import { Overview } from "./pages/overview";
import { Reports } from "./pages/reports";
import { Schedules } from "./pages/schedules";
import { Sender } from "./pages/sender";
import { Services } from "./pages/services";
import { Subscriptions } from "./pages/subscriptions";
import { Tasks } from "./pages/tasks";
import { Webhooks } from "./pages/webhooks";
import { useLoaded } from "./parts/hooks";
import { Icon, Mark } from "./parts/icons";
import { go, link, place } from "./router";
import { nextTheme } from "./theme";
import type { Status } from "./types";

interface Page {
  path: string;
  title: string;
  page: FunctionComponent;
  shortcut?: string;
  menu?: boolean;
  operators?: boolean;
}

export const PAGES: Page[] = [
  { path: "overview", title: "Overview", page: Overview, shortcut: "o" },
  { path: "events", title: "Events", page: Events, shortcut: "e" },
  { path: "event", title: "Event", page: EventPage, menu: false },
  { path: "tasks", title: "Tasks", page: Tasks, shortcut: "t" },
  { path: "dead-letters", title: "Dead letters", page: DeadLetters, shortcut: "d" },
  { path: "services", title: "Services", page: Services, shortcut: "s" },
  { path: "subscriptions", title: "Subscriptions", page: Subscriptions, shortcut: "u" },
  { path: "schedules", title: "Schedules", page: Schedules, shortcut: "c" },
  { path: "webhooks", title: "Webhooks", page: Webhooks, shortcut: "w" },
  { path: "reports", title: "Reports", page: Reports, shortcut: "r" },
  { path: "send", title: "Send an event", page: Sender, shortcut: "n" },
  { path: "keys", title: "API keys", page: ApiKeys, shortcut: "k", operators: true },
  { path: "audit", title: "Audit", page: Audit, shortcut: "a", operators: true },
];

const ROLES = {
  operator: "may read and do everything",
  viewer: "may read everything",
  limited: "may read some event types",
};

export function Shell({ children }: { children: ComponentChildren }) {
  const { page } = place.value;
  const title = PAGES.find((one) => one.path === page)?.title ?? "streammesh";
  const [open, setOpen] = useState(false);
  useEffect(() => {
    document.title = `${title} · streammesh`;
    setOpen(false);
  }, [title, place.value]);
  useShortcuts();
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <nav class={open ? "side open" : "side"} aria-label="Pages">
        <div class="side-head">
          <a class="brand" href={link("overview")}>
            <Mark />
            <span>streammesh</span>
          </a>
          <button class="button quiet only-narrow" aria-expanded={open} aria-controls="pages" onClick={() => setOpen(!open)}>
            <Icon name="more" />
            <span class="unseen">Pages</span>
          </button>
        </div>
        <ul class="pages" id="pages">
          {PAGES.filter((one) => one.menu !== false && (!one.operators || key.value?.admin)).map((one) => {
            const here = page === one.path || (page === "event" && one.path === "events");
            return (
              <li key={one.path}>
                <a href={link(one.path)} aria-current={here ? "page" : undefined} title={`g ${one.shortcut}`}>
                  <Icon name={one.path} />
                  {one.title}
                </a>
              </li>
            );
          })}
        </ul>
        <Who />
      </nav>
      <div class="beside">
        <Bar />
        <main id="main" tabIndex={-1}>
          {children}
        </main>
      </div>
    </div>
  );
}

function skip(event: Event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Who() {
  const who = key.value;
  if (!who) return null;
  const scope = who.admin ? "all types" : [...who.subscribe].join(", ") || "nothing";
  return (
    <div class="who">
      <div class="who-name">
        <span class="who-key" title={`Reads: ${scope}`}>
          {who.name}
        </span>
        <span class={`role role-${who.role}`} title={ROLES[who.role]}>
          {who.role}
        </span>
      </div>
      <p class="who-may">
        {who.admin
          ? "Reads and does everything."
          : `Reads ${scope}. Publishes ${who.publish.join(", ") || "nothing"}.`}
      </p>
      <button class="button quiet small" onClick={() => signOut()}>
        <Icon name="out" />
        Sign out
      </button>
    </div>
  );
}

const LIVE: Record<string, string> = {
  connecting: "Connecting",
  open: "Live",
  waiting: "Reconnecting",
  ended: "Ended",
  refused: "Not live",
};

function Bar() {
  const mayAsk = Boolean(key.value?.admin || key.value?.role === "viewer");
  const status = useLoaded<Status | undefined>(
    (signal) => (mayAsk ? get<Status>("v1/status", {}, signal) : Promise.resolve(undefined)),
    [key.value?.name],
    10_000,
  );
  const input = useRef<HTMLInputElement>(null);
  const find = (event: Event) => {
    event.preventDefault();
    const text = input.current?.value.trim();
    if (!text) return;
    input.current!.value = "";
    input.current!.blur();
    go("event", text);
  };
  const now = status.value?.status;
  return (
    <header class="bar">
      <form class="find" role="search" onSubmit={find}>
        <input ref={input} id="find" type="search" placeholder="Find an event or a task by its id" aria-label="Find an event or a task by its id" />
        <kbd aria-hidden="true">/</kbd>
      </form>
      <div class="bar-side">
        {now && (
          <a class={`pill tone-${now === "ok" ? "ok" : now === "degraded" ? "warn" : "bad"}`} href={link("overview")}>
            <span class="dot" aria-hidden="true" />
            {now === "ok" ? "All well" : `${status.value!.findings.length} ${status.value!.findings.length === 1 ? "finding" : "findings"}`}
          </a>
        )}
        <span class={`pill live-${live.state.value}`} role="status" title={live.detail.value}>
          <span class="dot" aria-hidden="true" />
          {LIVE[live.state.value]}
        </span>
        <button class="button quiet icon-only" onClick={nextTheme} aria-label="Switch between dark and light">
          <Icon name="sun" />
        </button>
      </div>
    </header>
  );
}

/** `/` finds; `g` and a letter go to a page. */
function useShortcuts() {
  useEffect(() => {
    let pressed = 0;
    const heard = (event: KeyboardEvent) => {
      const at = event.target as HTMLElement;
      if (event.metaKey || event.ctrlKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "/") {
        event.preventDefault();
        document.getElementById("find")?.focus();
      } else if (event.key === "g") {
        pressed = Date.now();
      } else if (Date.now() - pressed < 1500) {
        const page = PAGES.find((one) => one.shortcut === event.key && (!one.operators || key.value?.admin));
        if (page) go(page.path);
        pressed = 0;
      }
    };
    addEventListener("keydown", heard);
    return () => removeEventListener("keydown", heard);
  }, []);
}
