/** Aborts a request after so many seconds of silence, or with the caller's signal. */
export class Watch {
    silent = false;
    #controller = new AbortController();
    #outer;
    #seconds;
    #timer;
    constructor(seconds, outer) {
        this.#seconds = seconds;
        this.#outer = outer;
        if (outer?.aborted)
            this.#stop();
        outer?.addEventListener("abort", this.#stop, { once: true });
        this.heard();
    }
    get signal() {
        return this.#controller.signal;
    }
    heard() {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => {
            this.silent = true;
            this.#controller.abort();
        }, this.#seconds * 1000);
    }
    end() {
        clearTimeout(this.#timer);
        this.#outer?.removeEventListener("abort", this.#stop);
        this.#controller.abort(); // what is left of an answer is not waited for
    }
    #stop = () => this.#controller.abort(this.#outer?.reason);
}
