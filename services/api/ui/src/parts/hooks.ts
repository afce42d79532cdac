import { useEffect, useRef, useState } from "preact/hooks";
import { told } from "../api";

export interface Loaded<T> {
  value: T | undefined;
  error: string;
  problem: unknown;
  loading: boolean;
  reload: () => void;
}

/** Ask for something, again each `every` ms while somebody looks; what was known stays until there is news. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, of: unknown[], every = 0): Loaded<T> {
  const [value, setValue] = useState<T>();
  const [problem, setProblem] = useState<unknown>();
  const [loading, setLoading] = useState(true);
  const [turn, setTurn] = useState(0);
  const asked = useRef("");
  const what = JSON.stringify(of);
  useEffect(() => {
    const request = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    if (asked.current !== what) setValue(undefined);
    asked.current = what;
    const once = async () => {
      if (document.visibilityState === "hidden" && every) {
        timer = setTimeout(() => void once(), every);
        return;
      }
      setLoading(true);
      try {
        const found = await load(request.signal);
        if (request.signal.aborted) return;
        setValue(() => found);
        setProblem(undefined);
      } catch (error) {
        if (request.signal.aborted) return;
        setProblem(error);
      }
      setLoading(false);
      if (every) timer = setTimeout(() => void once(), every);
    };
    void once();
    return () => {
      request.abort();
      clearTimeout(timer);
    };
  }, [what, turn, every]);
  return {
    value,
    problem,
    error: problem === undefined ? "" : told(problem),
    loading,
    reload: () => setTurn((n) => n + 1),
  };
}

/** The width of an element, as it changes. */
export function useSize<E extends HTMLElement>() {
  const element = useRef<E>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect;
      setSize({ width, height });
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return { element, ...size };
}

/** Whether the window is as narrow as a phone. */
export function useNarrow(): boolean {
  const media = "(max-width: 760px)";
  const [narrow, setNarrow] = useState(() => matchMedia(media).matches);
  useEffect(() => {
    const list = matchMedia(media);
    const heard = () => setNarrow(list.matches);
    list.addEventListener("change", heard);
    return () => list.removeEventListener("change", heard);
  }, []);
  return narrow;
}
