import assert from "node:assert/strict";
import { test } from "node:test";

import { SseParser } from "../built/sse.js";

test("bytes may be cut anywhere, and every line end counts once", () => {
  const whole = new TextEncoder().encode("\uFEFFid: 1\r\ndata: ä\r\ndata: b\r\n\r\n: comment\rid: 2\nevent: told\ndata:c\n\nid: 3\n\n");
  for (let cut = 0; cut <= whole.length; cut++) {
    const parser = new SseParser();
    const found = [...parser.feed(whole.subarray(0, cut)), ...parser.feed(whole.subarray(cut))];
    assert.deepEqual(found, [
      { event: "message", data: "ä\nb", id: "1" },
      { event: "told", data: "c", id: "2" },
    ]);
    assert.equal(parser.lastId, "3");
  }
});

test("half of a block does not move the position", () => {
  const parser = new SseParser();
  parser.feed(new TextEncoder().encode("id: 1\ndata: a\n\nid: 2\ndata: b\n"));
  assert.equal(parser.lastId, "1");
});

test("an event without an end is refused", () => {
  const parser = new SseParser();
  const much = new TextEncoder().encode("data: " + "x".repeat(1 << 24));
  assert.throws(() => { for (let i = 0; i < 4; i++) parser.feed(much); }, RangeError);
});
