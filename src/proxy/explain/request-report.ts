/** One thing that was done on behalf of a request. */
export interface RequestStep {
  /** `decision`, `exchange`, `joined`, `fill`, `lease`, `peer` or `visibility`. */
  readonly step: string;
  /** From the request's headers on, milliseconds. */
  readonly atMs: number;
  /** Undefined for what takes no time worth telling, and for what goes on. */
  readonly tookMs: number | undefined;
  readonly fields: Readonly<Record<string, string | number | boolean | undefined>>;
}

/** How a request was answered, and what that took. Plain data; instants are milliseconds since the epoch. */
export interface RequestReport {
  readonly requestId: string;
  readonly startedAtMs: number;
  /** It has not been answered to its end yet; of the rest, what it asks for and its steps are known then. */
  readonly running: boolean;
  /** What the access line says of it; empty until it is known what it asks for. */
  readonly line: Readonly<Record<string, string | number | boolean | undefined>>;
  /** How the request said which upstream it means; undefined where it could not be understood. */
  readonly form: "virtual-host" | "ns" | "prefix" | "default" | undefined;
  /** How the answer came to be: of `Cache-Status`, and the text of its `Warning`. */
  readonly cache: Readonly<Record<string, string | number | boolean | undefined>>;
  /** What the client was told went wrong, or why its answer was cut off. */
  readonly error: { readonly code: string; readonly message: string } | undefined;
  readonly steps: readonly RequestStep[];
  /** Steps that were too many to be kept. */
  readonly stepsDropped: number;
}

/** The answers to one id: clients may give the same to several requests. */
export interface RequestExplanation {
  readonly done: true;
  /** The latest first. */
  readonly requests: readonly RequestReport[];
  /** The same in words, a line each. */
  readonly words: readonly string[];
}
