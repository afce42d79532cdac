import { useState } from "preact/hooks";
import { signIn, told } from "../api";
import { Mark } from "../parts/icons";

export function SignIn({ why }: { why: string }) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState(why);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await signIn(text);
    } catch (error) {
      setWrong(told(error));
      setBusy(false);
    }
  };
  return (
    <main class="sign-in" id="main" tabIndex={-1}>
      <form class="sign-in-card" onSubmit={submit}>
        <div class="sign-in-mark">
          <Mark />
          <h1>streammesh</h1>
        </div>
        <p class="note">Sign in with an API key. It stays in this tab and is forgotten when the tab is closed.</p>
        <label class="field">
          <span>API key</span>
          <input
            type="password"
            name="key"
            autocomplete="off"
            spellcheck={false}
            placeholder="smk_…"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
            aria-describedby="sign-in-wrong"
            autofocus
          />
        </label>
        <p class="wrong" id="sign-in-wrong" role="alert">
          {wrong}
        </p>
        <button class="button primary wide" disabled={busy || !text.trim()}>
          {busy ? "Signing in …" : "Sign in"}
        </button>
        <p class="hint">
          Make one with <code>streammesh keys create NAME --subscribe '*'</code>; an admin key may also act. On your own
          machine <code>streammesh up</code> says where its key is.
        </p>
      </form>
    </main>
  );
}
