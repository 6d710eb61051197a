/**
 * A strict reader of the status page's HTML. It takes what the page writes and nothing else: every element is closed, every
 * attribute is in double quotes or has no value, and every `<` and `&` in text is an entity. Whatever else stands there was
 * not escaped, and throws.
 */

export interface Element {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly (Element | string)[];
}

const VOID: ReadonlySet<string> = new Set(["meta", "link", "input", "img"]);

const TOKEN = /<!doctype html>|<(\/?)([a-z][a-z0-9]*)((?: [a-zA-Z-]+(?:="[^"<>]*")?)*) ?>|([^<]+)/y;
const ATTRIBUTE = / ([a-zA-Z-]+)(?:="([^"]*)")?/g;
const ENTITIES: Readonly<Record<string, string>> = {
  "&amp;": "&",
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&#39;": "'",
  "&#96;": "`",
};

interface Open {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: (Element | string)[];
}

/** The document's, or fragment's, elements below one of no name. */
export function parseHtml(text: string): Element {
  const root: Open = { name: "", attributes: new Map(), children: [] };
  const open: Open[] = [root];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex;
    const token = TOKEN.exec(text);
    const parent = open.at(-1);
    if (token === null || parent === undefined)
      throw new Error(`no HTML at ${JSON.stringify(text.slice(at, at + 80))}`);
    const [, slash, name, attributes = "", content] = token;
    if (content !== undefined) {
      parent.children.push(decoded(content));
    } else if (name !== undefined && slash === "/") {
      if (parent.name !== name) throw new Error(`</${name}> ends <${parent.name}>`);
      open.pop();
    } else if (name !== undefined) {
      const element: Open = { name, attributes: attributesOf(attributes), children: [] };
      parent.children.push(element);
      if (!VOID.has(name)) open.push(element);
    }
  }
  if (open.length > 1) throw new Error(`<${open.at(-1)?.name}> is not closed`);
  return root;
}

/** All elements below, in document order, that have the name and the attributes. */
export function findAll(
  { children }: Element,
  name: string,
  attributes: Readonly<Record<string, string>> = {},
): readonly Element[] {
  return children.flatMap((child) => {
    if (typeof child === "string") return [];
    const fits =
      child.name === name && Object.entries(attributes).every(([key, value]) => child.attributes.get(key) === value);
    return [...(fits ? [child] : []), ...findAll(child, name, attributes)];
  });
}

export function find(element: Element, name: string, attributes: Readonly<Record<string, string>> = {}): Element {
  const [found] = findAll(element, name, attributes);
  if (found === undefined) throw new Error(`there is no <${name}> with ${JSON.stringify(attributes)}`);
  return found;
}

/** What is read: runs of white space are one space. */
export function textOf(element: Element): string {
  return rawTextOf(element).replace(/\s+/g, " ").trim();
}

function rawTextOf({ children }: Element): string {
  return children.map((child) => (typeof child === "string" ? child : rawTextOf(child))).join("");
}

/** The rows of a table, each by the names of its columns. */
export function rowsOf(table: Element): readonly Readonly<Record<string, string>>[] {
  const names = findAll(find(table, "thead"), "th").map(textOf);
  return findAll(find(table, "tbody"), "tr").map((row) =>
    Object.fromEntries(
      row.children
        .filter((child) => typeof child !== "string")
        .map((cell, i) => [names[i] ?? `column ${i}`, textOf(cell)]),
    ),
  );
}

function attributesOf(text: string): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  for (const [, name = "", value = ""] of text.matchAll(ATTRIBUTE)) {
    if (attributes.has(name)) throw new Error(`two attributes ${name}`);
    attributes.set(name, decoded(value));
  }
  return attributes;
}

function decoded(text: string): string {
  return text.replace(/&[^;]{0,10};?/g, (entity) => {
    const character = ENTITIES[entity];
    if (character === undefined) throw new Error(`no entity: ${entity}`);
    return character;
  });
}
