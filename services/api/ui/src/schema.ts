// A first payload from a JSON Schema, and what a payload lacks of one. As much as handlers' schemas use.

interface Schema {
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  anyOf?: Schema[];
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  examples?: unknown[];
  $ref?: string;
  $defs?: Record<string, Schema>;
}

const DEEPEST = 6;

function resolved(schema: Schema, root: Schema): Schema {
  const name = schema.$ref?.match(/^#\/\$defs\/(.+)$/)?.[1];
  return name ? (root.$defs?.[name] ?? {}) : schema;
}

export function sample(of: unknown, root: Schema = of as Schema, depth = 0): unknown {
  if (!of || typeof of !== "object" || depth > DEEPEST) return null;
  const schema = resolved(of as Schema, root);
  if (schema.default !== undefined) return schema.default;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.const !== undefined) return schema.const;
  if (schema.enum?.length) return schema.enum[0];
  if (schema.anyOf?.length) return sample(schema.anyOf[0], root, depth + 1);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === "object" || schema.properties) {
    const wanted = schema.required ?? Object.keys(schema.properties ?? {});
    return Object.fromEntries(wanted.map((name) => [name, sample(schema.properties?.[name], root, depth + 1)]));
  }
  if (type === "array") return schema.items ? [sample(schema.items, root, depth + 1)] : [];
  return { integer: 1, number: 1.5, boolean: true, string: "text" }[type ?? ""] ?? null;
}

/** Names that a schema requires of an object and that it does not have. */
export function missing(of: unknown, data: unknown): string[] {
  const schema = of as Schema | null;
  if (!schema?.required || !data || typeof data !== "object" || Array.isArray(data)) return [];
  return schema.required.filter((name) => !(name in data));
}
