// A list that the API answers page by page: the first page anew whenever what is asked changes, further ones on demand.
import { useEffect, useState } from "preact/hooks";
import { told } from "../api";

const PAUSE_MS = 120; // in which somebody who types a filter may go on

export interface PageOf<Row> {
  rows: Row[];
  next: string | null;
}

export interface Pages<Row> {
  rows: Row[];
  next: string | null;
  error: string;
  loading: boolean;
  again: () => void;
  further: () => void;
  atEnd: () => void;
}

/** Asked again every 3 s while somebody looks, as long as only the first page, of `first` rows, is shown. */
export function useFresh<Row>(pages: Pages<Row>, which: string, first: number): void {
  const { rows, again } = pages;
  const isFirst = rows.length <= first;
  useEffect(() => {
    if (!isFirst) return;
    const timer = setInterval(() => document.visibilityState === "visible" && again(), 3_000);
    return () => clearInterval(timer);
  }, [which, isFirst]);
}

// `which` says what is asked; at most about `most` rows are kept; `begin` is called as it is asked anew.
export function usePages<Row>(
  which: string,
  most: number,
  ask: (cursor: string | null, signal?: AbortSignal) => Promise<PageOf<Row>>,
  begin?: (clear: () => void) => void,
): Pages<Row> {
  const [rows, setRows] = useState<Row[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [error, setError] = useState("");
  const [loading, setLoading] = useState(true);
  const [turn, setTurn] = useState(0);

  const load = async (cursor: string | null, kept: Row[], signal?: AbortSignal) => {
    setLoading(true);
    try {
      const page = await ask(cursor, signal);
      setRows([...kept, ...page.rows]);
      setNext(page.next);
      setError("");
    } catch (problem) {
      if (!signal?.aborted) setError(told(problem));
    }
    if (!signal?.aborted) setLoading(false);
  };

  useEffect(() => {
    const request = new AbortController();
    begin?.(() => setRows([]));
    const timer = setTimeout(() => void load(null, [], request.signal), turn ? 0 : PAUSE_MS);
    return () => {
      clearTimeout(timer);
      request.abort();
    };
  }, [which, turn]);

  const further = () => void load(next, rows);
  const atEnd = () => {
    if (next && rows.length < most && !loading) further();
  };
  return { rows, next, error, loading, again: () => setTurn((n) => n + 1), further, atEnd };
}
