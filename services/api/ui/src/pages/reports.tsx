import { PageHead } from "../parts/basic";
export function Reports() {
  return <PageHead title="Reports" />;
}
