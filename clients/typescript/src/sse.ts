/** One event of a stream of server-sent events; `id` is the last id seen so far. */
export interface ServerSentEvent {
  event: string;
  data: string;
  id: string;
}

const LONGEST = 32 * 1024 * 1024; // characters of one event: what the mesh tells is shorter

/** Reads a stream as its bytes come, cut anywhere. Source: WHATWG HTML, section 9.2.6. */
export class SseParser {
  /** Where to resume after all that was given: also a block with an id and no data moves it. */
  lastId = "";
  #decoder = new TextDecoder(); // takes a byte order mark away
  #afterCr = false;
  #rest: string[] = [];
  #size = 0;
  #data: string[] = [];
  #event = "";
  #id = "";

  /** Returns the events that this chunk completes. Throws RangeError for one without an end. */
  feed(chunk: Uint8Array): ServerSentEvent[] {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (text === "") return [];
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1); // the rest of a line end
    this.#afterCr = text.endsWith("\r");
    const lines = text.split(/\r\n|\n|\r/);
    const unfinished = lines.pop() as string;
    const found: ServerSentEvent[] = [];
    for (const part of lines) {
      this.#keep(part);
      const line = this.#rest.join("");
      this.#rest = [];
      const event = this.#line(line);
      if (event) found.push(event);
    }
    this.#keep(unfinished);
    return found;
  }

  #keep(part: string): void {
    if (part === "") return;
    this.#rest.push(part);
    this.#size += part.length;
    if (this.#size > LONGEST) throw new RangeError("an event of the stream has no end");
  }

  #line(line: string): ServerSentEvent | null {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") {
      this.#data.push(value);
      return null;
    }
    this.#size -= line.length; // comments and the like are not kept
    if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #dispatch(): ServerSentEvent | null {
    this.lastId = this.#id;
    const event =
      this.#data.length > 0
        ? { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id }
        : null;
    this.#data = [];
    this.#event = "";
    this.#size = 0;
    return event;
  }
}
