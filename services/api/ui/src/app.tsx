import { useSignalEffect } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { hasStoredKey, key, resume, signOut, signedOut, told } from "./api";
import * as live from "./live";
import { PAGES, Shell } from "./shell";
import { place } from "./router";
import { SignIn } from "./pages/sign_in";
import { Empty, PageHead } from "./parts/basic";

export function App() {
  const [taken, setTaken] = useState(!hasStoredKey());
  useEffect(() => {
    if (taken) return;
    resume()
      .catch((error) => signOut(told(error)))
      .finally(() => setTaken(true));
  }, []);
  useSignalEffect(() => {
    if (key.value) live.begin();
    else live.end();
  });
  if (!taken) return <div class="starting" role="status" aria-label="Signing in" />;
  if (!key.value) return <SignIn why={signedOut.value} />;
  const { page } = place.value;
  const Page = PAGES.find((one) => one.path === page)?.page ?? Unknown;
  return (
    <Shell>
      <Page />
    </Shell>
  );
}

function Unknown() {
  return (
    <>
      <PageHead title="No such page" />
      <Empty title="This address leads nowhere">The pages are in the navigation.</Empty>
    </>
  );
}
