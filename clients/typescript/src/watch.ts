/** Aborts a request after so many seconds of silence, or with the caller's signal. */
export class Watch {
  silent = false;
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #seconds: number;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(seconds: number, outer: AbortSignal | undefined) {
    this.#seconds = seconds;
    this.#outer = outer;
    if (outer?.aborted) this.#stop();
    outer?.addEventListener("abort", this.#stop, { once: true });
    this.heard();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.silent = true;
      this.#controller.abort();
    }, this.#seconds * 1000);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#stop);
    this.#controller.abort(); // what is left of an answer is not waited for
  }

  #stop = (): void => this.#controller.abort(this.#outer?.reason);
}
