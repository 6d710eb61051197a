/** Where something stands in the configuration: keys, and numbers of list entries. */
export type Path = readonly (string | number)[];

export type Mapping = Readonly<Record<string, unknown>>;

export function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `upstreams["docker.io"].credentials[0].label` */
export function formatPath(path: Path): string {
  let text = "";
  for (const key of path) {
    if (typeof key === "number") {
      text += `[${key}]`;
    } else if (/^[A-Za-z_][\w-]*$/.test(key)) {
      text += text === "" ? key : `.${key}`;
    } else {
      text += `[${JSON.stringify(key)}]`;
    }
  }
  return text;
}

/** Schema issues have wider paths than there are in a tree of YAML. */
export function toPath(keys: readonly PropertyKey[]): Path {
  return keys.map((key) => (typeof key === "number" ? key : String(key)));
}

/** What stands at a path; undefined where the path leads nowhere. */
export function valueAt(tree: unknown, path: Path): unknown {
  let value = tree;
  for (const key of path) {
    if (Array.isArray(value)) {
      value = typeof key === "number" ? value[key] : undefined;
    } else {
      value = isMapping(value) && Object.hasOwn(value, key) ? value[key] : undefined;
    }
  }
  return value;
}

/** A copy with one value replaced. Where something other than a mapping is in the way, it stays and gets reported as it is. */
export function withValueAt(tree: unknown, path: readonly string[], value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) {
    return value;
  }
  const holder = tree ?? {};
  if (!isMapping(holder)) {
    return tree;
  }
  return { ...holder, [key]: withValueAt(holder[key], rest, value) };
}

/** A copy with every text replaced, and null (a key with nothing behind it) as if it were not there. */
export function mapTexts(tree: unknown, replace: (text: string, path: Path) => string, path: Path = []): unknown {
  if (typeof tree === "string") {
    return replace(tree, path);
  }
  if (Array.isArray(tree)) {
    return tree.map((entry: unknown, i) => mapTexts(entry, replace, [...path, i]));
  }
  if (isMapping(tree)) {
    return Object.fromEntries(
      Object.entries(tree).map(([key, entry]) => [key, mapTexts(entry, replace, [...path, key])]),
    );
  }
  return tree ?? undefined;
}
