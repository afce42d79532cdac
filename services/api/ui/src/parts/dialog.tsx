import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** A question that stands before everything else; Escape and the backdrop close it. */
export function Dialog(props: { title: string; close: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog
      ref={element}
      class="dialog"
      aria-label={props.title}
      onClose={props.close}
      onClick={(event) => event.target === element.current && props.close()}
    >
      <div class="dialog-inside">
        <header>
          <h2>{props.title}</h2>
          <button class="button quiet small" onClick={props.close}>
            Close
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}
