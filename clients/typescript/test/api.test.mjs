// Against a real API: MESH_URL, MESH_KEY; a worker `audit` there answers each order.* event with {"done": n}.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError, MeshClient, MeshUnavailable, NotEnded, UnexpectedAnswer } from "../built/index.js";

const { MESH_URL: url, MESH_KEY: key } = process.env;
const skip = url ? false : "needs MESH_URL and MESH_KEY";
const client = (more = {}) => new MeshClient(url, { key, retryFor: 0, ...more });

test("an event is published once, however often it is sent, and waited for", { skip }, async () => {
  const mesh = client();
  const sent = await mesh.publish("order.placed", { n: 1 }, { subject: "order/1", vendor: "x" });
  const again = await mesh.publish("order.placed", { n: 1 }, { id: sent.id, subject: "order/1", vendor: "x" });
  const state = await mesh.wait(sent.id, { timeout: 10 });

  assert.match(sent.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  assert.deepEqual([sent.duplicate, again.duplicate], [false, true]);
  assert.deepEqual([state.state, state.event.vendor], ["completed", "x"]);
  assert.deepEqual(state.deliveries[0].task.result, { done: 1 });
  assert.equal((await mesh.task(state.deliveries[0].task_id)).state, "succeeded");
});

test("many are published in one request, with ids of their own", { skip }, async () => {
  const sent = await client().publishMany([{ type: "user.seen", data: 1 }, { type: "user.seen", data: 2 }]);
  assert.deepEqual(sent.map((one) => [one.duplicate, one.source]), [[false, "shop"], [false, "shop"]]);
  assert.equal((await client().event(sent[1].id)).event.data, 2);
});

test("the stream of one event tells all of it and ends with it", { skip }, async () => {
  const mesh = client();
  const sent = await mesh.publish("order.placed", { n: 2 });
  const types = [];
  for await (const note of mesh.follow({ event: sent.id })) types.push(note.type);
  assert.deepEqual(types, ["task.queued", "task.started", "task.succeeded", "event.completed"]);
});

test("what a handler streams is followed to its end, and resumed", { skip }, async () => {
  const mesh = client();
  const sent = await mesh.publish("order.told");
  const { task_id: id } = (await mesh.wait(sent.id, { timeout: 10 })).deliveries[0];
  const heard = [];
  for await (const chunk of mesh.stream(id, "tokens")) heard.push(chunk);
  assert.deepEqual(heard.map((one) => [one.epoch, one.data]), [[1, "Once"], [1, Uint8Array.of(1, 255)], [1, { n: 1 }]]);
  const rest = [];
  for await (const chunk of mesh.stream(id, "tokens", { offset: heard[1].offset })) rest.push(chunk.offset);
  assert.deepEqual(rest, ["1-3"]);
});

test("a stream that is cut at any byte goes on where it was", { skip }, async () => {
  let cuts = 0;
  const cutting = async (input, init) => {
    const answer = await fetch(input, init);
    let left = 20 + Math.floor(Math.random() * 2_000);
    const body = answer.body.pipeThrough(
      new TransformStream({
        transform(chunk, controller) {
          controller.enqueue(chunk.subarray(0, left));
          left -= chunk.length;
          if (left <= 0) {
            cuts += 1;
            controller.error(new Error("cut"));
          }
        },
      }),
    );
    return new Response(body, { status: answer.status, headers: answer.headers });
  };
  const mesh = client({ source: "cutter" });
  const first = await mesh.publish("order.first");
  await mesh.wait(first.id, { source: "cutter", timeout: 10 });
  await mesh.publishMany(Array.from({ length: 20 }, (_, n) => ({ type: "order.many", id: `many-${n}`, data: { n } })));
  const ids = [];
  const ended = new Set();
  for await (const note of client({ fetch: cutting }).follow({ type: "order.many", after: "0-0" })) {
    ids.push(note.id);
    if (note.type === "event.completed") ended.add(note.event.id);
    if (ended.size === 20) break;
  }
  assert.equal(ids.length, 80);
  assert.deepEqual(ids, [...new Set(ids)]);
  assert.ok(cuts > 5, `${cuts} cuts`);
});

test("what is refused carries its problem document, and is not tried again", { skip }, async () => {
  await assert.rejects(client({ retryFor: 30 }).publish(""), (error) => {
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.problem.errors[0].pointer], [422, "/type"]);
    return true;
  });
  await assert.rejects(new MeshClient(url, { key: "nobody" }).event("x"), { name: "ApiError", status: 401 });
});

test("an id may hold any characters", { skip }, async () => {
  const id = "a/b ?x=%25#ü";
  await client().publish("user.seen", 1, { id });
  assert.equal((await client().event(id)).id, id);
});

test("waiting ends after its time, and a signal ends what is under way", { skip }, async () => {
  const mesh = client();
  const sent = await mesh.publish("order.slow");
  await assert.rejects(mesh.wait(sent.id, { timeout: 0.2 }), NotEnded);
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error("enough")), 100);
  await assert.rejects(async () => {
    for await (const _ of mesh.follow({ subject: "nobody", signal: stop.signal }));
  }, /enough/);
});

test("several types, a subject's beginning and a time choose what is followed", { skip }, async () => {
  const mesh = client();
  const since = new Date(Date.now() - 5_000);
  const subjects = ["shelf/1", "shelter/1", "shelf/2"];
  for (const subject of subjects) await mesh.wait((await mesh.publish("order.shelved", { n: 3 }, { subject })).id);
  const told = [];
  const wanted = { type: ["task.succeeded", "event.completed"], subjectPrefix: "shelf/", since };
  for await (const note of mesh.follow(wanted)) if (told.push(`${note.type} ${note.event.subject}`) === 4) break;
  assert.deepEqual(told, ["1", "2"].flatMap((n) => [`task.succeeded shelf/${n}`, `event.completed shelf/${n}`]));
});

test("webhooks are made, changed, replayed and deleted", { skip }, async () => {
  const mesh = client();
  const made = await mesh.createWebhook({ url: "https://shop.example/hook", types: ["order.*"], subject: "order/1" });
  assert.match(made.secret, /^whsec_/);
  const changed = await mesh.updateWebhook(made.id, { subject: null, ordered: true });
  assert.deepEqual([changed.subject, changed.ordered, changed.types, changed.secret], [null, true, ["order.*"], undefined]);
  const rotated = await mesh.rotateWebhookSecret(made.id, { overlap: "1h" });
  assert.notEqual(rotated.secret, made.secret);
  assert.ok(rotated.old_until);
  assert.equal((await mesh.testWebhook(made.id)).deliveries.length, 1);
  assert.ok((await mesh.replayWebhook(made.id, { since: new Date(Date.now() - 1_000) })).after);
  for await (const _ of mesh.webhookAttempts(made.id)) assert.fail("none was made");
  assert.equal((await mesh.webhook(made.id)).waiting, 1);
  assert.deepEqual((await mesh.webhooks()).map((one) => one.id), [made.id]);
  assert.equal((await mesh.deleteWebhook(made.id)).id, made.id);
  await assert.rejects(mesh.webhook(made.id), { name: "ApiError", status: 404 });
});

test("attempts come page by page, and what would be another webhook is not asked for again", async () => {
  const asked = [];
  const pages = async (input, init) => {
    asked.push(`${init.method} ${input}`);
    if (init.method === "POST") return Response.json({ title: "busy" }, { status: 503 });
    return Response.json(input.includes("?cursor=c%2F1") ? { attempts: [2], next: null } : { attempts: [1], next: "c/1" });
  };
  const mesh = new MeshClient("http://x", { key: "k", fetch: pages, retryFor: 5 });
  const told = [];
  for await (const one of mesh.webhookAttempts("wh_1")) told.push(one);
  assert.deepEqual(told, [1, 2]);
  const once = [mesh.createWebhook({ url: "https://x" }), mesh.rotateWebhookSecret("wh_1"), mesh.testWebhook("wh_1")];
  for (const call of await Promise.allSettled(once)) assert.equal(call.reason.status, 503);
  assert.equal(asked.length, 5);
});

test("nobody there, and somebody else, are told apart", async () => {
  await assert.rejects(new MeshClient("http://127.0.0.1:9", { key: "k", retryFor: 0 }).event("x"), MeshUnavailable);
  const page = async () => new Response("<html>", { headers: { "content-type": "text/html" } });
  await assert.rejects(new MeshClient("http://x", { key: "k", fetch: page }).event("x"), UnexpectedAnswer);
  await assert.rejects(new MeshClient("http://x", { key: "k", fetch: page }).follow().next(), UnexpectedAnswer);
  for (const wrong of ["ftp://x", "http://u:p@x", "http://x?y"]) {
    assert.throws(() => new MeshClient(wrong, { key: "k" }), TypeError);
  }
});

test("a silent stream is noticed, and a lost answer is asked for again with the same id", async () => {
  const ids = [];
  let asked = 0;
  const flaky = async (input, init) => {
    if (init.method === "POST") {
      ids.push(JSON.parse(init.body).id);
      if (ids.length < 3) throw new TypeError("cut");
      return Response.json({ id: ids[2], source: "s", type: "t", duplicate: true });
    }
    asked += 1;
    assert.equal(init.headers["Last-Event-ID"], asked === 1 ? undefined : "1-0");
    const told = `id: ${asked}-0\nevent: task.started\ndata: {"id":"${asked}-0"}\n\n`;
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(told));
        init.signal.addEventListener("abort", () => controller.error(init.signal.reason));
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
  const mesh = new MeshClient("http://x", { key: "k", fetch: flaky, silence: 0.05 });
  await mesh.publish("a.b");
  assert.equal(new Set(ids).size, 1);
  const notes = mesh.follow();
  assert.deepEqual([(await notes.next()).value.id, (await notes.next()).value.id], ["1-0", "2-0"]);
  await notes.return();
});
