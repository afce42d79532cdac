import { PageHead } from "../parts/basic";
export function Schedules() {
  return <PageHead title="Schedules" />;
}
