// Writes down what `built/` was made of, so that a check without Node can tell whether it belongs to these sources.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const SOURCES = ["index.html", "package-lock.json", "package.json", "seal.mjs", "src", "tsconfig.json", "vite.config.ts"];

function files(path) {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path).flatMap((name) => files(join(path, name)));
}

const named = (path, from) => relative(from, path).split(sep).join("/");
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");
const byName = (from) => (a, b) => (named(a, from) < named(b, from) ? -1 : 1);

const sources = SOURCES.flatMap((name) => files(join(here, name))).sort(byName(here));
const built = join(here, "built");
const made = files(built).filter((path) => named(path, built) !== "manifest.json").sort(byName(built));
const manifest = {
  sources: sha256(...sources.flatMap((path) => [named(path, here), "\0", readFileSync(path), "\0"])),
  files: Object.fromEntries(made.map((path) => [named(path, built), sha256(readFileSync(path))])),
};
writeFileSync(join(built, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
