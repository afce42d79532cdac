import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** A question that stands before everything else; Escape and the backdrop close it, unless it `stays`. */
export function Dialog(props: { title: string; close: () => void; stays?: boolean; children: ComponentChildren }) {
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
      onCancel={(event) => props.stays && event.preventDefault()}
      onClick={(event) => !props.stays && event.target === element.current && props.close()}
    >
      <div class="dialog-inside">
        <header>
          <h2>{props.title}</h2>
          <button type="button" class="button quiet small" onClick={props.close}>
            {props.stays ? "I have it" : "Close"}
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}
