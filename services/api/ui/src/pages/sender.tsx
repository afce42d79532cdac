import { PageHead } from "../parts/basic";
export function Sender() {
  return <PageHead title="Sender" />;
}
