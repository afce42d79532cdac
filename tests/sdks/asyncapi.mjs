// Says what the official parser finds in an AsyncAPI document on standard input; exit code 1 unless it finds nothing.
import { Parser } from "@asyncapi/parser";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { document, diagnostics } = await new Parser().parse(Buffer.concat(chunks).toString());
for (const one of diagnostics) console.log(one.severity, one.code, one.message, one.path.join("/"));
console.log(document?.version());
process.exit(document && diagnostics.length === 0 ? 0 : 1);
