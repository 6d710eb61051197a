/** Puts together lines whose values are texts, numbers and booleans: most lines' are, and pino takes several times as long. */
export class PlainLines {
  readonly #now: () => number;
  #time = "";
  #timeMs = Number.NaN;
  #message = "";
  #quotedMessage = '""';

  /** @param now milliseconds since the epoch */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** What pino would write; undefined where there is a value that has to be described first. */
  line(level: string, fields: Readonly<Record<string, unknown>>, message: string): string | undefined {
    for (const name in fields) {
      const type = typeof fields[name];
      if (type !== "string" && type !== "number" && type !== "undefined" && type !== "boolean") return undefined;
    }
    return this.wrap(level, JSON.stringify(fields).slice(1, -1), message);
  }

  /** @param members of the line's object, as JSON */
  wrap(level: string, members: string, message: string): string {
    const comma = members === "" ? "" : ",";
    return `{"level":"${level}","time":"${this.#isoTime()}"${comma}${members},"msg":${this.#quoted(message)}}\n`;
  }

  /** One line after the other says the same. */
  #quoted(message: string): string {
    if (message !== this.#message) {
      this.#message = message;
      this.#quotedMessage = JSON.stringify(message);
    }
    return this.#quotedMessage;
  }

  #isoTime(): string {
    const ms = this.#now();
    if (ms !== this.#timeMs) {
      this.#timeMs = ms;
      this.#time = new Date(ms).toISOString();
    }
    return this.#time;
  }
}
