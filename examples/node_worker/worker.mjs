// A worker that is only a URL: Node alone, no package. The mesh POSTs a CloudEvent, signed as Standard Webhooks say.
//
//   SECRET=whsec_… node worker.mjs        (the secret is what PUT /v1/services/invoices answered)
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const MOST_BYTES = 5_000_000;
const MOST_SECONDS = 300; // how old a request may be: an older one is somebody's recording

export function isOurs(headers, body, secret, now = Date.now() / 1000) {
  const { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": signatures = "" } = headers;
  if (!id || !(Math.abs(now - Number(time)) < MOST_SECONDS)) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const expected = createHmac("sha256", key).update(`${id}.${time}.`).update(body).digest();
  return signatures.split(" ").some((one) => {
    const given = Buffer.from(one.replace(/^v1,/, ""), "base64");
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

// What this worker does. A retry has the same id as the attempt before it: `headers["streammesh-task"]`.
export async function handle(event) {
  const { order_id, total } = event.data ?? {};
  if (typeof total !== "number") return { status: 422, body: "total should be a number" }; // never right: a dead letter
  if (total > 1_000_000) return { status: 503, retryAfter: 60 }; // not now
  return { status: 200, body: { invoice: `I-${order_id}`, total } }; // the task's result
}

async function read(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > MOST_BYTES) return null;
    parts.push(part);
  }
  return Buffer.concat(parts);
}

export function serve(secret, port = 0) {
  const server = createServer(async (request, response) => {
    try {
      const body = await read(request);
      if (body === null) return response.writeHead(413).end();
      if (!isOurs(request.headers, body, secret)) return response.writeHead(401).end();
      const answer = await handle(JSON.parse(body));
      const headers = { "content-type": "application/json" };
      if (answer.retryAfter) headers["retry-after"] = String(answer.retryAfter);
      const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body ?? null);
      response.writeHead(answer.status, headers).end(text);
    } catch (error) {
      console.error(error);
      response.writeHead(500).end(); // the mesh tries again
    }
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const server = await serve(process.env.SECRET ?? "", Number(process.env.PORT ?? 8090));
  console.log(`listening on ${server.address().port}`);
}
