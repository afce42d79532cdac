import { PageHead } from "../parts/basic";
export function Audit() {
  return <PageHead title="Audit" />;
}
