import { parseJson } from "./document.ts";

/** What an OCI error envelope says, as far as it decides anything (distribution-spec, "Error Codes"). */
export interface ErrorBody {
  /** The first entry's code; registries have codes of their own. */
  readonly code: string | undefined;
  /** All messages; foreign text, not to be shown. */
  readonly message: string;
}

/** Reads `{"errors": [...]}`; HTML, plain text and everything else say nothing. Never throws. */
export function parseErrorBody(bytes: Uint8Array): ErrorBody {
  const document = parseJson(bytes);
  const errors = isObject(document) && Array.isArray(document.errors) ? document.errors.filter(isObject) : [];
  const code = errors[0]?.code;
  return {
    code: typeof code === "string" && /^[A-Z][A-Z0-9_ ]{0,63}$/.test(code) ? code : undefined,
    message: errors.flatMap((entry) => (typeof entry.message === "string" ? [entry.message] : [])).join("\n"),
  };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
