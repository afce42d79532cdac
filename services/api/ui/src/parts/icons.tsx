// Line icons of one weight.
const PATHS: Record<string, string> = {
  overview: "M4 5h6v6H4zM14 5h6v4h-6zM14 13h6v6h-6zM4 15h6v4H4z",
  events: "M4 6h16M4 12h16M4 18h10",
  tasks: "M5 12l4 4 10-10M5 20h14",
  "dead-letters": "M4 7l8 6 8-6M4 7v11h16V7zM9 3l6 0",
  services: "M4 5h16v5H4zM4 14h16v5H4zM8 7.500h.010M8 16.500h.010",
  subscriptions: "M9 6v12M15 6v12",
  schedules: "M12 7v5l3 2M12 21a9 9 0 100-18 9 9 0 000 18z",
  send: "M5 12h13M13 6l6 6-6 6",
  webhooks: "M13 6a3 3 0 10-5 2l-3 6M7 19a3 3 0 100-6M7 16h9M19 19a3 3 0 10-2-5l-4-7",
  reports: "M6 3h8l4 4v14H6zM9 12h6M9 16h6",
  keys: "M8 16a4 4 0 110-8 4 4 0 010 8zM12 12h9M17 12v4M21 12v3",
  audit: "M12 3l7 3v6c0 4-3 7-7 9-4-2-7-5-7-9V6z",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 3v2M12 19v2M3 12h2M19 12h2M5.600 5.600l1.400 1.400M17 17l1.400 1.400M18.400 5.600L17 7M7 17l-1.400 1.400",
  out: "M10 5H5v14h5M14 8l4 4-4 4M18 12H9",
  more: "M4 7h16M4 12h16M4 17h16",
};

export function Icon({ name }: { name: string }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name] ?? ""} />
    </svg>
  );
}

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M7 11c4.500 0 4.500 10 9 10s4.500-10 9-10M7 21c4.500 0 4.500-10 9-10s4.500 10 9 10" />
    </svg>
  );
}
