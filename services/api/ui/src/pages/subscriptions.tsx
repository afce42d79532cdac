import { PageHead } from "../parts/basic";
export function Subscriptions() {
  return <PageHead title="Subscriptions" />;
}
