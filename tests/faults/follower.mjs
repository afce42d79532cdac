// A follower over the TypeScript client: prints the position of each notification, and "resync" where one is told.
import { MeshClient } from "../../clients/typescript/built/index.js";

const [url, key, type] = process.argv.slice(2);
for await (const note of new MeshClient(url, { key }).follow({ type, after: "0-0" })) {
  process.stdout.write(`${note.id || note.type}\n`);
}
