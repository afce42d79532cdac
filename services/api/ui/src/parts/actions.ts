import { useState } from "preact/hooks";

export interface Action {
  busy: boolean;
  error: unknown; // undefined where the last one went well
  run: (work: () => Promise<unknown>) => Promise<boolean>;
}

/** Something that a person has done: whether it goes on, and what it was refused with. One at a time. */
export function useAction(): Action {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const run = async (work: () => Promise<unknown>) => {
    if (busy) return false;
    setBusy(true);
    try {
      await work();
      setError(undefined);
      return true;
    } catch (problem) {
      setError(() => problem);
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, error, run };
}
