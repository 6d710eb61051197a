/** What may stand in a template: text is escaped, markup is not, undefined and false leave nothing, and lists are joined. */
export type HtmlValue = Html | string | number | undefined | false | readonly HtmlValue[];

/** Markup in which all foreign text has been escaped. Only {@link html} makes it. */
export interface Html {
  toString(): string;
}

class Markup implements Html {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

/**
 * A template whose values are escaped for text and for attributes in double quotes.
 *
 * @throws Error for a value that stands where escaping is not enough: in an attribute without quotes
 */
export function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  let text = strings[0] ?? "";
  for (const [i, value] of values.entries()) {
    if (strings[i]?.endsWith("=")) {
      throw new Error("an attribute's value stands in double quotes");
    }
    text += written(value) + (strings[i + 1] ?? "");
  }
  return new Markup(text);
}

function written(value: HtmlValue): string {
  if (value === undefined || value === false) {
    return "";
  }
  if (value instanceof Markup) {
    return value.toString();
  }
  if (Array.isArray(value)) {
    return value.map(written).join("");
  }
  return escaped(String(value));
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
  "`": "&#96;",
};

/**
 * What is neither markup nor able to make text look like other text: control characters and those that turn the direction of
 * writing become visible.
 */
function escaped(text: string): string {
  return text
    .toWellFormed()
    .replace(/[&<>"'`]/g, (character) => ENTITIES[character] ?? "")
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => (/[\n\t]/.test(character) ? character : "�"));
}
