import { createHash } from "node:crypto";
import { inspect } from "node:util";

const MASK = "***";

/** A credential's value. Whatever prints it (templates, JSON, `inspect`, loggers) gets stars; only {@link reveal} gives it away. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** For the one place that puts the value on the wire. */
  reveal(): string {
    return this.#value;
  }

  /** SHA-256 in hex: tells one secret from another, in memory and in parked-credential records. */
  hash(): string {
    return createHash("sha256").update(this.#value).digest("hex");
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
