// Shows /asyncapi.json: all of it is written as text, so nothing that a type or a schema holds is run.
const found = document.getElementById("found");
const state = document.getElementById("state");

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolved(api, value, depth = 0) {
  if (Array.isArray(value)) return value.map((one) => resolved(api, one, depth + 1));
  if (typeof value !== "object" || value === null) return value;
  const ref = value.$ref;
  if (typeof ref === "string" && ref.startsWith("#/components/schemas/") && depth < 24) {
    return resolved(api, api.components.schemas[ref.slice(21)] ?? {}, depth + 4);
  }
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, resolved(api, one, depth + 1)]));
}

function message(api, ref) {
  const about = api.components.messages[ref.$ref.split("/").pop()];
  const summary = element("summary", about.name);
  if (about.summary) summary.append(element("small", ` — ${about.summary}`));
  const details = element("details", "", summary);
  for (const [label, names] of [["Published by", about["x-publishers"]], ["Read by", about["x-readers"]]]) {
    if (names?.length) details.append(element("p", `${label}: ${names.join(", ")}`));
  }
  details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector("pre")) {
      details.append(element("pre", JSON.stringify(resolved(api, about.payload), null, 2)));
    }
  });
  return details;
}

async function show(key) {
  const answer = await fetch("asyncapi.json", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  const api = await answer.json();
  if (!answer.ok) {
    state.textContent = api.detail ?? api.title;
    return;
  }
  const events = Object.values(api.channels.events?.messages ?? {});
  state.textContent = key ? `${events.length} event types` : "Give a key to see the event types.";
  found.replaceChildren(element("p", api.info.description));
  const first = [["events", "Event types"], ["notifications", "Notifications"]];
  for (const [channel, title] of first) {
    const about = api.channels[channel];
    if (!about) continue;
    found.append(element("h2", title), element("p", `${about.address}: ${about.description}`));
    found.append(...Object.values(about.messages).map((ref) => message(api, ref)));
  }
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  show(document.getElementById("key").value.trim()).catch((error) => (state.textContent = String(error)));
});
show("").catch((error) => (state.textContent = String(error)));
