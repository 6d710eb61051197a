/**
 * Watches every double and every Weir that a test starts, without the test asking for it: afterwards no credential may have
 * reached a host that it does not belong to, and nothing that a Weir wrote may hold a secret (hard cases U2 and A4).
 */
import type { LedgerEntry } from "../registries/double-server.ts";

/** The requests that a double of a registry has got, and what it has to keep. */
export interface WatchedDouble {
  readonly ledger: readonly LedgerEntry[];
  /** Requests that brought credentials or cookies to where they do not belong within the double. */
  leaks(): readonly LedgerEntry[];
  /** What must stand in nothing that a Weir writes. */
  secrets(): ReadonlySet<string>;
  /** Of these, what this double itself knows or has given out: nobody else may be sent it. */
  ownSecrets(): ReadonlySet<string>;
  /** Those that are passwords: they stand in no URL. */
  passwords(): ReadonlySet<string>;
}

/** A secret of the configuration, and the hosts that may be sent it; undefined where that is not known. */
interface ConfiguredSecret {
  readonly value: string;
  readonly hosts: ReadonlySet<string> | undefined;
}

/** Shorter ones are words, which stand everywhere. */
const LEAST_CHARACTERS = 7;

/** Of what one Weir writes with every request, so much is looked at; it is the same again and again. */
const MAX_CHARACTERS = 8 * 1024 * 1024;

const SECRET_KEYS = /^(password|token|secret|secretAccessKey|sessionToken|identityToken)$/;

/** What came out of one Weir. */
export class Transcript {
  readonly secrets: readonly ConfiguredSecret[];
  readonly #pieces: { readonly where: string; readonly text: string }[] = [];
  #characters = 0;
  #ended = false;

  /** @param config as it is written to the file */
  constructor(config: unknown, env: Readonly<Record<string, string>> = {}) {
    this.secrets = [...secretsIn(config, undefined), ...secretsInEnvironment(env)].filter(
      ({ value }) => value.length >= LEAST_CHARACTERS && !value.includes("${"),
    );
  }

  /** False once the Weir has ended for good. */
  get live(): boolean {
    return !this.#ended;
  }

  get pieces(): readonly { readonly where: string; readonly text: string }[] {
    return this.#pieces;
  }

  add(where: string, text: string): void {
    this.#pieces.push({ where, text });
  }

  /** As {@link add} for what is written with every request, of which the first few thousand are enough. */
  addRepeated(where: string, text: string): void {
    if (this.#characters < MAX_CHARACTERS) {
      this.#characters += text.length;
      this.add(where, text);
    }
  }

  end(): void {
    this.#ended = true;
  }
}

export class Recorder {
  readonly #doubles = new Map<WatchedDouble, { ended: boolean }>();
  readonly #transcripts = new Set<Transcript>();
  /** By host and port. */
  readonly #weirs = new Map<string, Transcript>();

  watchDouble(double: WatchedDouble): void {
    this.#doubles.set(double, { ended: false });
  }

  doubleEnded(double: WatchedDouble): void {
    const watched = this.#doubles.get(double);
    if (watched !== undefined) watched.ended = true;
  }

  /** For tests that send the double what it does not want, to see whether it notices. */
  ignore(double: WatchedDouble): void {
    this.#doubles.delete(double);
  }

  watchWeir(transcript: Transcript): Transcript {
    this.#transcripts.add(transcript);
    return transcript;
  }

  /** Answers from there are its words. */
  answersAt(url: string, transcript: Transcript): void {
    this.#weirs.set(new URL(url).host, transcript);
  }

  /** What a client was answered, by whomever: of a Weir, the headers are looked at, and the body of an error. */
  answered(host: string, reply: { readonly status: number; readonly headers: object; readonly body: Buffer }): void {
    const transcript = this.#weirs.get(host);
    transcript?.addRepeated("the headers of an answer", JSON.stringify(reply.headers));
    if (reply.status >= 400) transcript?.addRepeated("the body of an error", reply.body.toString());
  }

  /** What a collector of traces was sent; by which Weir is not known, and none may tell a secret there. */
  exported(spans: string): void {
    for (const transcript of this.#transcripts) {
      if (transcript.live) transcript.addRepeated("what was sent to the collector of traces", spans);
    }
  }

  /** What has got where it does not belong, one sentence each, without the secrets themselves. */
  problems(): readonly string[] {
    return [...this.#sentAstray(), ...this.#written()];
  }

  /** Forgets what has ended: it belongs to the test that is over. */
  forgetEnded(): void {
    for (const [double, { ended }] of this.#doubles) if (ended) this.#doubles.delete(double);
    for (const transcript of this.#transcripts) if (!transcript.live) this.#transcripts.delete(transcript);
    for (const [host, transcript] of this.#weirs) if (!transcript.live) this.#weirs.delete(host);
  }

  *#sentAstray(): Generator<string> {
    const configured = [...this.#transcripts].flatMap(({ secrets }) => secrets);
    for (const double of this.#doubles.keys()) {
      for (const entry of double.leaks()) yield `${shown(entry)} brought credentials to a host that none belong to`;
      const own = double.ownSecrets();
      const others = [...this.#doubles.keys()].filter((other) => other !== double);
      const foreign = long([...others.flatMap((other) => [...other.ownSecrets()])].filter((value) => !own.has(value)));
      const passwords = long(double.passwords());
      for (const entry of double.ledger) {
        const sent = sentBy(entry);
        if (entry.headers.cookie !== undefined) yield `${shown(entry)} brought a cookie`;
        if (foreign.some((value) => sent.includes(value))) yield `${shown(entry)} brought another registry's secret`;
        const address = `${entry.path}?${entry.query}`;
        if (passwords.some((value) => address.includes(value))) yield `${shown(entry)} has a password in its URL`;
        for (const { value, hosts } of configured) {
          const strays = hosts !== undefined && !hosts.has(entry.host) && !hosts.has(entry.host.replace(/:\d+$/, ""));
          if (strays && sent.includes(value))
            yield `${shown(entry)} brought a password that is configured for another host`;
        }
      }
    }
  }

  *#written(): Generator<string> {
    const secrets = long([
      ...[...this.#doubles.keys()].flatMap((double) => [...double.secrets()]),
      ...[...this.#transcripts].flatMap((transcript) => transcript.secrets.map(({ value }) => value)),
    ]);
    for (const transcript of this.#transcripts) {
      const texts = Map.groupBy(transcript.pieces, ({ where }) => where);
      for (const [where, pieces] of texts) {
        const text = pieces.map((piece) => piece.text).join("\n");
        for (const secret of secrets) {
          const at = text.indexOf(secret);
          if (at !== -1) yield `a secret stands in ${where}: ${JSON.stringify(around(text, at, secret))}`;
        }
      }
    }
  }
}

/** The one of this test file. */
export const recorder: Recorder = new Recorder();

function long(values: Iterable<string>): readonly string[] {
  return [...new Set(values)].filter((value) => value.length >= LEAST_CHARACTERS);
}

function shown({ method, host, path }: LedgerEntry): string {
  return `${method} ${host}${path}`;
}

/** Everything that a request told, with what is Base64 in it readable. */
function sentBy({ path, query, headers }: LedgerEntry): string {
  const basic = /^basic (.+)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
  return [path, ...query.values(), ...Object.values(headers), Buffer.from(basic, "base64").toString()].join("\n");
}

/** Where in the text it stands, with stars in its place. */
function around(text: string, at: number, secret: string): string {
  return `${text.slice(Math.max(0, at - 120), at)}***${text.slice(at + secret.length, at + secret.length + 40)}`;
}

/** What is called a secret, with where it may go if it is a credential of an upstream. */
function* secretsIn(config: unknown, hosts: ReadonlySet<string> | undefined): Generator<ConfiguredSecret> {
  if (typeof config !== "object" || config === null) return;
  for (const [key, value] of Object.entries(config)) {
    if (typeof value === "string" && SECRET_KEYS.test(key)) yield { value, hosts };
    else if (key === "otlpHeaders") for (const header of Object.values(value)) yield { value: String(header), hosts };
    else if (key === "upstreams")
      for (const upstream of Object.values(value)) yield* secretsIn(upstream, hostsOf(upstream));
    else yield* secretsIn(value, hosts);
  }
}

/** The hosts that an upstream names, with their ports where it names them. */
function hostsOf(upstream: unknown): ReadonlySet<string> {
  const { endpoints = [], realms = [] } = upstream as {
    readonly endpoints?: readonly (string | { readonly url: string })[];
    readonly realms?: readonly string[];
  };
  const urls = endpoints.map((endpoint) => (typeof endpoint === "string" ? endpoint : endpoint.url));
  return new Set([...urls.map((url) => new URL(url).host), ...realms]);
}

/** Of `OTEL_EXPORTER_OTLP_HEADERS`, which is a header's name and its value, the value. */
function secretsInEnvironment(env: Readonly<Record<string, string>>): ConfiguredSecret[] {
  return Object.entries(env)
    .filter(([name]) => /PASSWORD|SECRET|TOKEN|_HEADERS$/.test(name))
    .map(([name, value]) => ({
      value: name.endsWith("_HEADERS") ? value.slice(value.indexOf("=") + 1) : value,
      hosts: undefined,
    }));
}
