import { describe, expect, test } from "vitest";
import type { Log } from "../../../../src/base/log.ts";
import { Secret } from "../../../../src/base/secret.ts";
import type { PasswordCredentialConfig } from "../../../../src/config/types.ts";
import { defaultUpstream } from "../../../../src/config/upstreams.ts";
import type { Credential } from "../../../../src/upstream/credentials/credential.ts";
import type { ParkedState } from "../../../../src/upstream/credentials/parked.ts";
import { Credentials } from "../../../../src/upstream/credentials/pool.ts";
import { type CredentialSource, SourceError, type SourceFault } from "../../../../src/upstream/credentials/source.ts";
import { UpstreamError } from "../../../../src/upstream/upstream.ts";
import { ManualClock } from "../../../support/manual-clock.ts";
import { memoryParkedCredentials } from "../../../support/parked-credentials.ts";
import { freshness } from "./fixtures.ts";

const o = { signal: new AbortController().signal };
const MINUTE_MS = 60_000;

/** A source whose secret the test changes, or takes away. */
class ScriptedSource implements CredentialSource {
  readonly renews: boolean;
  secret: string;
  fault: SourceFault | undefined;
  refusals = 0;
  closed = false;

  constructor(secret: string, renews = false) {
    this.secret = secret;
    this.renews = renews;
  }

  async resolve() {
    if (this.fault !== undefined) throw new SourceError(this.fault, "the source is broken; mend it");
    return { form: "password" as const, username: "me", secret: new Secret(this.secret), expiresAtMs: undefined };
  }

  refused(): void {
    this.refusals += 1;
  }

  close(): void {
    this.closed = true;
  }
}

interface Wanted {
  readonly label: string;
  readonly repositories?: readonly string[];
  readonly source?: ScriptedSource;
  readonly left?: number;
}

/** A pool over the credentials, with everything that it says. */
function open(wanted: readonly Wanted[], from: { clock?: ManualClock; records?: Map<string, ParkedState> } = {}) {
  const { clock = new ManualClock(), records = new Map<string, ParkedState>() } = from;
  const sources = new Map(
    wanted.map(({ label, source }) => [label, source ?? new ScriptedSource(`secret of ${label}`)]),
  );
  const left = new Map(wanted.map((entry) => [entry.label, entry.left]));
  const said: string[] = [];
  const logged: string[] = [];
  const note = (_fields: unknown, message: string): void => {
    logged.push(message);
  };
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const base = defaultUpstream("reg.example", freshness);
  const credentials = wanted.map(
    ({ label, repositories }): PasswordCredentialConfig => ({
      source: "password",
      label,
      repositories,
      username: "me",
      password: new Secret("not looked at"),
    }),
  );
  const [endpoint] = base.endpoints.map((entry) => ({ ...entry, credentials: wanted.map(({ label }) => label) }));
  if (endpoint === undefined) throw new Error("an upstream has an endpoint");
  const pool = new Credentials({
    upstream: { ...base, credentials },
    endpoint,
    quotaLeft: (label) => left.get(label),
    parked: memoryParkedCredentials(records),
    clock,
    log,
    observer: {
      credentialParked: (upstream, label, parked) => said.push(`${upstream} ${label} parked=${parked}`),
      credentialExpires: (upstream, label, atMs) => said.push(`${upstream} ${label} expires=${atMs}`),
    },
    sourceOf: ({ label }) => sources.get(label) as ScriptedSource,
  });
  const source = (label: string): ScriptedSource => {
    const found = sources.get(label);
    if (found === undefined) throw new Error(`no source ${label}`);
    return found;
  };
  return { pool, clock, records, left, said, logged, source };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function chosen(pool: Credentials, repository = "app"): Promise<Credential> {
  const credential = await pool.choose(repository, o);
  if (credential === undefined) throw new Error("anonymous");
  return credential;
}

async function refusal(promise: Promise<unknown>): Promise<UpstreamError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof UpstreamError)) throw new Error(`no UpstreamError: ${String(error)}`);
  return error;
}

describe("which credential speaks for a repository", () => {
  const limited = { label: "mine", repositories: ["myorg/*"] };
  const general = { label: "all" };
  const cases: [string, Wanted[], string, string | undefined][] = [
    ["none is configured", [], "app", undefined],
    ["none applies: anonymous", [limited], "library/nginx", undefined],
    ["the one that applies", [limited, general], "library/nginx", "all"],
    ["several apply: the first", [limited, general], "myorg/app", "mine"],
    ["several apply: the first, whatever its patterns", [general, limited], "myorg/app", "all"],
    [
      "the one with most quota left",
      [
        { ...general, left: 0.2 },
        { ...limited, left: 0.3 },
      ],
      "myorg/app",
      "mine",
    ],
    ["what is not known counts as all of it", [{ ...general, left: 0.9 }, limited], "myorg/app", "mine"],
    [
      "equal quota: the first",
      [
        { ...general, left: 0.5 },
        { ...limited, left: 0.5 },
      ],
      "myorg/app",
      "all",
    ],
    [
      "quota of one that does not apply",
      [
        { ...limited, left: 1 },
        { ...general, left: 0 },
      ],
      "x/y",
      "all",
    ],
    ["spent, but no other applies", [{ ...general, left: 0 }], "x/y", "all"],
  ];
  test.each(cases)("%s", async (_name, wanted, repository, label) => {
    const { pool } = open(wanted);
    expect((await pool.choose(repository, o))?.label).toBe(label);
    expect(pool.applies(repository)).toBe(label !== undefined);
  });

  test("it moves on as quota runs down", async () => {
    const { pool, left } = open([{ label: "a" }, { label: "b" }]);
    expect((await chosen(pool)).label).toBe("a");
    left.set("a", 0.1);
    expect((await chosen(pool)).label).toBe("b");
    left.set("b", 0.05);
    expect((await chosen(pool)).label).toBe("a");
  });

  test("only those of the endpoint are used", async () => {
    const { pool } = open([{ label: "a" }]);
    await expect(pool.resolve("b", o)).rejects.toThrow('reg.example has no credential "b" here');
  });
});

describe("U4 a refused credential", () => {
  test("is kept from the registry for a minute, doubling to an hour, and says so with its label and what to do", async () => {
    const { pool, clock } = open([{ label: "ci" }]);
    const parks: (number | undefined)[] = [];
    for (let i = 0; i < 8; i += 1) {
      await pool.refused(await chosen(pool), o);
      const error = await refusal(pool.choose("app", o));
      expect(error).toMatchObject({ fault: "credential", credential: "ci", upstream: "reg.example" });
      expect(error.message).toContain('credential "ci" was refused by the registry');
      expect(error.message).toContain("correct it in upstreams.reg.example.credentials");
      parks.push(error.retryAfterMs);
      clock.advance((error.retryAfterMs ?? 0) - 1);
      await refusal(pool.choose("app", o));
      clock.advance(1);
    }
    expect(parks.map((ms) => (ms ?? 0) / MINUTE_MS)).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
  });

  test("still applies: nobody is asked for anonymously in its place", async () => {
    const { pool } = open([{ label: "ci", repositories: ["myorg/*"] }]);
    await pool.refused(await chosen(pool, "myorg/app"), o);
    expect(pool.applies("myorg/app")).toBe(true);
    await expect(pool.choose("myorg/app", o)).rejects.toMatchObject({ fault: "credential" });
    expect(await pool.choose("library/nginx", o)).toBeUndefined();
  });

  test("gives way to another that applies", async () => {
    const { pool } = open([{ label: "a" }, { label: "b", left: 0.1 }]);
    await pool.refused(await chosen(pool), o);
    expect((await chosen(pool)).label).toBe("b");
    await pool.refused(await chosen(pool), o);
    const error = await refusal(pool.choose("app", o));
    expect(error.message).toMatch(/credential "a".*; .*credential "b"/);
    expect(error.retryAfterMs).toBe(MINUTE_MS);
  });

  test("counts once, however many had sent it before the first answer came", async () => {
    const { pool, clock, records } = open([{ label: "ci" }]);
    const credential = await chosen(pool);
    await Promise.all(Array.from({ length: 100 }, () => pool.refused(credential, o)));
    expect([...records.values()]).toEqual([{ untilMs: clock.now() + MINUTE_MS, failures: 1 }]);
  });

  test("is tried by one after its park, while the others are held off", async () => {
    const { pool, clock } = open([{ label: "ci" }]);
    await pool.refused(await chosen(pool), o);
    clock.advance(MINUTE_MS);
    const results = await Promise.allSettled(Array.from({ length: 50 }, () => pool.choose("app", o)));
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    // The one who tries it may ask again, as after a broken connection.
    clock.advance(2_000);
    const mine = { ...o, requestId: "r1" };
    expect(await pool.choose("app", mine)).toEqual(await pool.choose("app", mine));
    await refusal(pool.choose("app", { ...o, requestId: "r2" }));
    // The one may have had no use for it.
    clock.advance(2_000);
    await chosen(pool);
  });

  test("is anybody's again once it is accepted, and a later refusal begins with a minute", async () => {
    const { pool, clock, records, logged } = open([{ label: "ci" }]);
    await pool.refused(await chosen(pool), o);
    clock.advance(MINUTE_MS);
    await pool.refused(await chosen(pool), o);
    clock.advance(2 * MINUTE_MS);
    pool.accepted(await chosen(pool));
    await Promise.all(Array.from({ length: 50 }, () => chosen(pool)));
    expect(records.size).toBe(0);
    expect(logged.at(-1)).toBe("a credential that was refused is accepted again");
    await pool.refused(await chosen(pool), o);
    expect((await refusal(pool.choose("app", o))).retryAfterMs).toBe(MINUTE_MS);
  });

  test("is tried at once when its secret has changed", async () => {
    const { pool, source } = open([{ label: "ci" }]);
    await pool.refused(await chosen(pool), o);
    source("ci").secret = "the right one";
    expect((await chosen(pool)).secret.reveal()).toBe("the right one");
    source("ci").secret = "secret of ci";
    await refusal(pool.choose("app", o));
  });

  test("M2 survives a restart, in time and in doubling", async () => {
    const first = open([{ label: "ci" }]);
    await first.pool.refused(await chosen(first.pool), o);
    first.pool.close();
    const { clock, records } = first;
    clock.advance(MINUTE_MS / 2);
    const second = open([{ label: "ci" }], { clock, records });
    expect((await refusal(second.pool.choose("app", o))).retryAfterMs).toBe(MINUTE_MS / 2);
    clock.advance(MINUTE_MS / 2);
    await second.pool.refused(await chosen(second.pool), o);
    expect((await refusal(second.pool.choose("app", o))).retryAfterMs).toBe(2 * MINUTE_MS);
  });

  test("of one registry may be right for another", async () => {
    const { pool, records } = open([{ label: "ci" }]);
    const here = await chosen(pool);
    expect(here.fingerprint).toMatch(/^[0-9a-f]{64}$/);
    await pool.refused(here, o);
    expect([...records.keys()]).toEqual([here.fingerprint]);
  });

  test("that is fetched anew each time is given longer parks all the same", async () => {
    const source = new ScriptedSource("1", true);
    const { pool, clock } = open([{ label: "aws", source }]);
    for (const minutes of [1, 2, 4]) {
      await pool.refused(await chosen(pool), o);
      expect((await refusal(pool.choose("app", o))).retryAfterMs).toBe(minutes * MINUTE_MS);
      clock.advance(minutes * MINUTE_MS);
      source.secret += "1";
    }
    expect(source.refusals).toBe(3);
  });

  test("keeps nobody from pulling when its record cannot be read or written", async () => {
    const { pool, records, logged } = open([{ label: "ci" }]);
    records.get = () => {
      throw new Error("EIO");
    };
    records.set = () => {
      throw new Error("ENOSPC");
    };
    await pool.refused(await chosen(pool), o);
    await refusal(pool.choose("app", o));
    expect(logged.filter((line) => line.startsWith("the record of a refused credential"))).toHaveLength(2);
  });
});

describe("a secret that cannot be had", () => {
  test.each([
    ["credential", false],
    ["connect", true],
    ["timeout", true],
    ["status", true],
  ] as const)("%s: an upstream in trouble is %s", async (fault, trouble) => {
    const { pool, source } = open([{ label: "ci" }]);
    source("ci").fault = fault;
    const error = await refusal(pool.choose("app", o));
    expect(error).toMatchObject({ fault, trouble, credential: "ci" });
    expect(error.message).toBe('reg.example: credential "ci" cannot be used: the source is broken; mend it');
    expect(pool.status()).toMatchObject([{ label: "ci", lastError: error.message }]);
  });

  test("is said once in the log, and again when it breaks anew", async () => {
    const { pool, source, logged } = open([{ label: "ci" }]);
    for (const fault of ["credential", "credential", undefined, "credential"] as const) {
      source("ci").fault = fault;
      await (fault === undefined ? chosen(pool) : refusal(pool.choose("app", o)));
    }
    expect(logged).toHaveLength(2);
  });

  test("gives way to another that applies; what mends by itself is told before what does not", async () => {
    const { pool, source } = open([{ label: "a" }, { label: "b" }]);
    source("a").fault = "credential";
    expect((await chosen(pool)).label).toBe("b");
    source("b").fault = "connect";
    expect(await refusal(pool.choose("app", o))).toMatchObject({ fault: "connect", credential: "b" });
  });
});

describe("what is reported", () => {
  test("parked, by itself free again, accepted, gone", async () => {
    const { pool, clock, said } = open([{ label: "ci" }]);
    const credential = await chosen(pool);
    await pool.refused(credential, o);
    expect(pool.status()).toMatchObject([{ parkedUntilMs: clock.now() + MINUTE_MS }]);
    clock.advance(MINUTE_MS);
    await settled();
    expect(pool.status()).toMatchObject([{ parkedUntilMs: undefined }]);
    pool.close();
    expect(said).toEqual([
      "reg.example ci parked=false",
      "reg.example ci parked=true",
      "reg.example ci parked=false",
      "reg.example ci parked=undefined",
      "reg.example ci expires=undefined",
    ]);
  });

  test("nothing any more of one that was replaced, which still answers whoever is on it", async () => {
    const { pool, said, source, clock } = open([{ label: "ci" }]);
    pool.close();
    pool.close();
    expect(source("ci").closed).toBe(true);
    const before = said.length;
    await pool.refused(await chosen(pool), o);
    await refusal(pool.choose("app", o));
    expect(said).toHaveLength(before);
    expect(clock.sleepers).toBe(0);
  });

  test("no secret, in nothing that it says", async () => {
    const { pool, said, logged } = open([{ label: "ci" }]);
    const credential = await chosen(pool);
    await pool.refused(credential, o);
    const error = await refusal(pool.choose("app", o));
    const all = JSON.stringify([said, logged, error.message, pool.status(), credential]) + String(error.stack);
    expect(all).not.toContain("secret of ci");
  });
});
