import { PageHead } from "../parts/basic";
export function Services() {
  return <PageHead title="Services" />;
}
