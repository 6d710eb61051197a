/**
 * Each way to sign in, in each client's form, on each route, against rules of each kind, with the expected answer in each cell; on
 * the whole product behind TLS. What is refused asks no upstream anything, held or not.
 */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import https from "node:https";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp } from "../../support/app.ts";
import { type Certificate, createAuthority } from "../../support/certificates.ts";
import { hubUpstream } from "../../support/hub-weir.ts";
import { type Image, smallImage } from "../../support/images.ts";
import { type Asked, CATALOGS, type Route, routes, SPELLINGS, VIRTUAL_HOST } from "../../support/isolation.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { fillsOver } from "../../support/metrics.ts";
import type { HttpReply } from "../../support/network.ts";
import { recorder } from "../../support/recorder/recorder.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import { basic, fileOf, htpasswd, type IssuerKey, issuerKey, signed } from "../../support/sign-in.ts";

const ACCOUNT = { username: "weir", password: "dckr-pat-ways" };
const ISSUER = "https://issuer.example";
const REGISTRY = "Acme registry";
const PASSWORDS = { alice: "alice's own", bob: "bob's own", reader: "a reader's own", mallory: "mallory's own" };
/** Private, and public. */
const REPOSITORIES = { vault: "library/vault", site: "library/site" };
/** Docker Hub lists none, and says so to whoever may ask. */
const NO_REFERRERS = 404;
type Name = keyof typeof REPOSITORIES;

/** One of each client's; that the others are the same repository is shown for one way to sign in (tenants.test.ts). */
const FORMS = [
  "prefix",
  "ns",
  "ns, alias in upper case, short name",
  "prefix in front of v2",
  "virtual host",
  "default upstream, short name",
];

const RULES = [
  { effect: "deny", accounts: ["mallory"] },
  { effect: "allow", accounts: ["alice"] },
  { effect: "allow", accounts: ["reader"], what: ["docker.io/site"], actions: ["pull"] },
  { effect: "allow", groups: ["dev"], what: ["docker.io/library/vault"] },
  { effect: "allow", accounts: ["bob"], what: ["docker.io/library/s*"] },
  { effect: "allow", from: ["10.0.0.0/8"], what: ["index.docker.io/library/site"] },
];

/** What a caller gets of a repository; of the rules' keys, that of the 403. */
type Cell =
  | "served"
  /** What is held of it: before that a 403 by `access.rules`. */
  | "held"
  | "access.rules"
  | "access.rules[0]"
  /** A 401 whose challenge asks for it, with what it says is wrong with the token that was sent. */
  | "401"
  | "401 invalid_token"
  | "401 insufficient_scope";

/** What a caller sends. */
interface Sent {
  readonly headers?: Readonly<Record<string, string>>;
  readonly certificate?: Certificate;
}

interface Way extends Readonly<Record<Name, Cell>> {
  readonly sends: (of: World) => Sent | Promise<Sent>;
  readonly ping: 200 | 401;
  /** What the catalog lists; else the status. */
  readonly catalog: readonly Name[] | 401;
}

interface World {
  readonly clock: ManualClock;
  readonly key: IssuerKey;
  certificateOf(account: string): Promise<Certificate>;
  ask(asked: Asked, route: Pick<Route, "method" | "headers">, sent: Sent): Promise<HttpReply>;
  metric(name: string): Promise<number>;
  readonly adminUrl: string;
}

let stack: AsyncDisposableStack;
let hub: HubDouble;
let images: Readonly<Record<Name, Image>>;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  images = { vault: smallImage("vault of the ways"), site: smallImage("site of the ways") };
});

afterEach(() => stack.disposeAsync());

async function world(access: (keys: string) => Readonly<Record<string, unknown>>): Promise<World> {
  const clock = new ManualClock(Date.now());
  hub = await startHubDouble(stack, { accounts: [ACCOUNT], now: () => clock.now() });
  hub.add(REPOSITORIES.vault, images.vault, ["1"], "private");
  hub.add(REPOSITORIES.site, images.site, ["1"]);
  const authority = await createAuthority(stack);
  const { certFile, keyFile } = await authority.issue(["127.0.0.1"]);
  const key = issuerKey("one");
  const keys = await fileOf(stack, "jwks.json", JSON.stringify({ keys: [key.jwk] }));
  const app = await startTestApp(stack, {
    clock,
    config: {
      server: {
        listen: "127.0.0.1:0",
        tls: { cert: certFile, key: keyFile, clientCa: authority.caFile },
        trustedProxies: ["127.0.0.0/8"],
      },
      upstreams: { "docker.io": { ...hubUpstream(hub), credentials: [{ label: "ci", ...ACCOUNT }] } },
      routing: { default: "docker.io", hosts: { [VIRTUAL_HOST]: "docker.io" } },
      access: { ...access(keys), rules: RULES },
    },
  });
  const { host, port } = new URL(app.url);
  const agents = new Map<Certificate | undefined, https.Agent>();
  const agentOf = (certificate: Certificate | undefined): https.Agent => {
    const known = agents.get(certificate);
    if (known !== undefined) return known;
    const pair = certificate === undefined ? {} : { cert: certificate.cert, key: certificate.key };
    const made = new https.Agent({ keepAlive: true, maxSockets: 4, rejectUnauthorized: false, ...pair });
    stack.defer(() => made.destroy());
    agents.set(certificate, made);
    return made;
  };
  return {
    clock,
    key,
    adminUrl: app.adminUrl,
    metric: (name) => app.metric(name),
    certificateOf: (account) => authority.issue(["client.example"], { subject: `/O=Example/CN=${account}` }),
    async ask({ path, host: asHost = host }, { method, headers }, { certificate, headers: more }) {
      const request = https.request({
        ...{ host: "127.0.0.1", port, path, method, agent: agentOf(certificate) },
        headers: { ...headers, ...more, host: asHost },
      });
      request.end();
      const [response] = (await once(request, "response")) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      const reply = { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) };
      recorder.answered(host, reply);
      return reply;
    },
  };
}

function routesOf(name: Name) {
  const { root, blobs } = images[name];
  const things = { tag: "1", manifest: root.digest, blob: blobs[0]?.digest ?? "", large: "" };
  return Object.entries(routes(things)).filter(([what]) => !what.includes("large"));
}

/** Of what is served, by what was asked for. */
function servedStatus(route: string): number {
  if (route.startsWith("conditional")) return 304;
  if (route.includes("beyond the end")) return 416;
  if (route.includes("referrers")) return NO_REFERRERS;
  return route.includes("range") ? 206 : 200;
}

/** The cell as it was found: what of the answer the expectation names. */
function found({ status, headers, body }: HttpReply, route: string, cell: Cell): unknown {
  const challenge = headers["www-authenticate"] ?? "";
  if (status === 401) {
    expect(challenge).toMatch(/^Bearer realm=/);
    expect(challenge).toMatch(/scope="repository:docker\.io\/library\/(vault|site):pull"/);
    return ["401", ...(/error="(\w+)"/.exec(challenge)?.slice(1) ?? [])].join(" ");
  }
  expect(challenge).toBe("");
  if (status === 403) {
    // A HEAD does not say by which key.
    return body.length === 0 ? cell : JSON.parse(body.toString()).errors[0].detail.key;
  }
  return status === servedStatus(route) ? "served" : [status, body.toString()];
}

/** Every form and route of one row; resolves with how many cells there were. */
async function expectRow(of: World, name: string, way: Way, sent: Sent, held: boolean): Promise<number> {
  let cells = 0;
  for (const repository of ["vault", "site"] as const) {
    const asIs = way[repository];
    // Cold, what somebody may have would not be cold any more.
    if (!held && asIs === "served") continue;
    const withHeld = held ? "served" : "access.rules";
    const cell = asIs === "held" ? withHeld : asIs;
    const asked = hub.ledger.length;
    for (const [form, spell] of Object.entries(SPELLINGS).filter(([form]) => FORMS.includes(form))) {
      await Promise.all(
        routesOf(repository).map(async ([what, route]) => {
          const reply = await of.ask(spell(REPOSITORIES[repository], route.tail), route, sent);
          const at = [name, repository, form, what];
          expect([...at, found(reply, what, cell)]).toEqual([...at, cell]);
          cells += 1;
        }),
      );
    }
    // Who may fetch may be told what has changed since.
    if (asIs !== "served") expect([name, repository, hub.ledger.length - asked]).toEqual([name, repository, 0]);
  }
  expect([name, (await of.ask({ path: "/v2/" }, { method: "GET" }, sent)).status]).toEqual([name, way.ping]);
  for (const at of CATALOGS) {
    const reply = await of.ask(at, { method: "GET" }, sent);
    const after = at.path.includes("last=") ? REPOSITORIES.site : "";
    const listed =
      reply.status === 200
        ? JSON.parse(reply.body.toString()).repositories.map((full: string) => full.replace(/^docker\.io\//, ""))
        : reply.status;
    const expected =
      way.catalog === 401 ? 401 : way.catalog.map((one) => REPOSITORIES[one]).filter((full) => held && full > after);
    expect([name, at, listed]).toEqual([name, at, expected]);
  }
  return cells;
}

/** All rows cold, and again when everything is held. */
async function expectMatrix(of: World, ways: Readonly<Record<string, Way>>, owner: Sent): Promise<void> {
  const rows: { readonly name: string; readonly way: Way; readonly sent: Sent }[] = [];
  for (const [name, way] of Object.entries(ways)) rows.push({ name, way, sent: await way.sends(of) });
  for (const { name, way, sent } of rows) await expectRow(of, name, way, sent, false);
  expect(hub.ledger).toEqual([]);
  for (const repository of ["vault", "site"] as const) {
    const { manifests, blobs } = images[repository];
    const digests = [...manifests.map(({ digest }) => `manifests/${digest}`), ...blobs.map((b) => `blobs/${b.digest}`)];
    for (const tail of ["manifests/1", ...digests, "tags/list"]) {
      const path = `/v2/docker.io/${REPOSITORIES[repository]}/${tail}`;
      expect([path, (await of.ask({ path }, { method: "GET" }, owner)).status]).toEqual([path, 200]);
    }
    const path = `/v2/docker.io/${REPOSITORIES[repository]}/referrers/${images[repository].root.digest}`;
    expect([path, (await of.ask({ path }, { method: "GET" }, owner)).status]).toEqual([path, NO_REFERRERS]);
  }
  await fillsOver(of);
  let cells = 0;
  for (const { name, way, sent } of rows) cells += await expectRow(of, name, way, sent, true);
  expect(cells).toBe(rows.length * 2 * FORMS.length * routesOf("site").length);
}

const by = (authorization: string): Sent => ({ headers: { authorization } });
const passwordOf = (account: keyof typeof PASSWORDS): Sent => by(basic(account, PASSWORDS[account]));
const pullOf = (...names: readonly Name[]): readonly string[] =>
  names.map((name) => `repository:docker.io/${REPOSITORIES[name]}:pull`);

/** From the built-in service. */
async function tokenFor(of: World, who: Sent, ...scopes: readonly string[]): Promise<Sent> {
  const path = `/auth/token?${scopes.map((scope) => `scope=${encodeURIComponent(scope)}`).join("&")}`;
  const reply = await of.ask({ path }, { method: "GET" }, who);
  expect(reply.status).toBe(200);
  return by(`Bearer ${JSON.parse(reply.body.toString()).token}`);
}

async function issued(of: World, claims: Readonly<Record<string, unknown>>): Promise<string> {
  return await signed(of.key, { iss: ISSUER, exp: Math.floor(of.clock.now() / 1000) + 240, ...claims });
}

const idToken = (of: World, groups: readonly string[]): Promise<string> =>
  issued(of, { aud: "weir", sub: "job", groups });

const BOTH = pullOf("vault", "site");
const CATALOG = "registry:catalog:*";
const ALL: readonly Name[] = ["site", "vault"];

const OWN: Readonly<Record<string, Way>> = {
  nothing: { sends: () => ({}), vault: "401", site: "401", ping: 401, catalog: [] },
  "nothing, from a network that a rule has": {
    sends: () => ({ headers: { "x-forwarded-for": "10.1.2.3" } }),
    ...{ vault: "401", site: "served", ping: 401, catalog: ["site"] },
  },
  "an account that a rule allows everything, by its password": {
    sends: () => passwordOf("alice"),
    ...{ vault: "served", site: "served", ping: 200, catalog: ALL },
  },
  "the same by a certificate": {
    sends: async (of) => ({ certificate: await of.certificateOf("alice") }),
    ...{ vault: "served", site: "served", ping: 200, catalog: ALL },
  },
  "the same by a token": {
    sends: (of) => tokenFor(of, passwordOf("alice"), ...BOTH, CATALOG),
    ...{ vault: "served", site: "served", ping: 200, catalog: ALL },
  },
  "the same by a token that a certificate was good for": {
    sends: async (of) => tokenFor(of, { certificate: await of.certificateOf("alice") }, ...BOTH),
    ...{ vault: "served", site: "served", ping: 200, catalog: 401 },
  },
  "the same by a token for one of two": {
    sends: (of) => tokenFor(of, passwordOf("alice"), ...pullOf("site")),
    ...{ vault: "401 insufficient_scope", site: "served", ping: 200, catalog: 401 },
  },
  "an account that a rule allows one of two, by its password": {
    sends: () => passwordOf("bob"),
    ...{ vault: "access.rules", site: "served", ping: 200, catalog: ["site"] },
  },
  "the same by a token, asked for both": {
    sends: (of) => tokenFor(of, passwordOf("bob"), ...BOTH, CATALOG),
    ...{ vault: "401 insufficient_scope", site: "served", ping: 200, catalog: ["site"] },
  },
  "an account that may pull and not fetch": {
    sends: () => passwordOf("reader"),
    ...{ vault: "access.rules", site: "held", ping: 200, catalog: ["site"] },
  },
  "an account that may pull and not fetch, by a token": {
    sends: (of) => tokenFor(of, passwordOf("reader"), ...BOTH),
    ...{ vault: "401 insufficient_scope", site: "held", ping: 200, catalog: 401 },
  },
  "a group, by an ID token": {
    sends: async (of) => by(`Bearer ${await idToken(of, ["dev"])}`),
    ...{ vault: "served", site: "access.rules", ping: 200, catalog: ["vault"] },
  },
  "a group, by an ID token as a password": {
    sends: async (of) => by(basic("oidc", await idToken(of, ["dev"]))),
    ...{ vault: "served", site: "access.rules", ping: 200, catalog: ["vault"] },
  },
  "another group": {
    sends: async (of) => by(`Bearer ${await idToken(of, ["ops"])}`),
    ...{ vault: "access.rules", site: "access.rules", ping: 200, catalog: [] },
  },
  "an account that a rule denies, by its password": {
    sends: () => passwordOf("mallory"),
    ...{ vault: "access.rules[0]", site: "access.rules[0]", ping: 200, catalog: [] },
  },
  "the same by a certificate, from a network that a later rule has": {
    sends: async (of) => ({
      certificate: await of.certificateOf("mallory"),
      headers: { "x-forwarded-for": "10.1.2.3" },
    }),
    ...{ vault: "access.rules[0]", site: "access.rules[0]", ping: 200, catalog: [] },
  },
  "a token for nobody": {
    sends: (of) => tokenFor(of, {}, ...BOTH, CATALOG),
    ...{ vault: "401 insufficient_scope", site: "401 insufficient_scope", ping: 200, catalog: [] },
  },
  "a wrong password, beside a certificate that is good": {
    sends: async (of) => ({ ...by(basic("alice", "x")), certificate: await of.certificateOf("alice") }),
    ...{ vault: "401", site: "401", ping: 401, catalog: 401 },
  },
  "a token that nobody has issued": {
    sends: () => by("Bearer made.up.token"),
    ...{ vault: "401 invalid_token", site: "401 invalid_token", ping: 401, catalog: 401 },
  },
  "a scheme that nobody knows": {
    sends: () => by("Negotiate YIIJ"),
    ...{ vault: "401", site: "401", ping: 401, catalog: 401 },
  },
};

/** As a token server that is there already issues it. */
async function granted(of: World, sub: string, ...names: readonly string[]): Promise<Sent> {
  const access = names.map((name) =>
    name === CATALOG
      ? { type: "registry", name: "catalog", actions: ["*"] }
      : { type: "repository", name: `docker.io/${name}`, actions: ["pull", "push"] },
  );
  return by(`Bearer ${await issued(of, { aud: REGISTRY, sub, access })}`);
}

const { vault: VAULT, site: SITE } = REPOSITORIES;

const EXTERNAL: Readonly<Record<string, Way>> = {
  nothing: { sends: () => ({}), vault: "401", site: "401", ping: 401, catalog: [] },
  "a token for both, of an account that a rule allows both": {
    sends: (of) => granted(of, "alice", VAULT, SITE, CATALOG),
    ...{ vault: "served", site: "served", ping: 200, catalog: ALL },
  },
  "a token for both, of an account that a rule allows one": {
    sends: (of) => granted(of, "bob", VAULT, SITE),
    ...{ vault: "access.rules", site: "served", ping: 200, catalog: 401 },
  },
  "a token for one, of an account that a rule allows both": {
    sends: (of) => granted(of, "alice", SITE),
    ...{ vault: "401 insufficient_scope", site: "served", ping: 200, catalog: 401 },
  },
  "a token for both, of an account that a rule denies": {
    sends: (of) => granted(of, "mallory", VAULT, SITE, CATALOG),
    ...{ vault: "access.rules[0]", site: "access.rules[0]", ping: 200, catalog: [] },
  },
  "a token for nothing": {
    sends: (of) => granted(of, "alice"),
    ...{ vault: "401 insufficient_scope", site: "401 insufficient_scope", ping: 200, catalog: 401 },
  },
  "a token for another service": {
    sends: async (of) => by(`Bearer ${await issued(of, { aud: "another", sub: "alice", access: [] })}`),
    ...{ vault: "401 invalid_token", site: "401 invalid_token", ping: 401, catalog: 401 },
  },
  "a password, for which there is no such way": {
    sends: () => passwordOf("alice"),
    ...{ vault: "401", site: "401", ping: 401, catalog: [] },
  },
};

describe("A3 every way to sign in, form, route and kind of rule has the answer that is expected of it", () => {
  test("passwords, the built-in service's tokens, ID tokens, certificates and addresses", async () => {
    const file = await fileOf(stack, "htpasswd", await htpasswd(PASSWORDS));
    const of = await world((jwks) => ({
      mode: ["anonymous", "htpasswd", "token", "oidc", "mtls"],
      htpasswd: { file },
      oidc: { issuers: [{ issuer: ISSUER, audience: "weir", jwks, groups: "groups" }] },
      mtls: { account: "cn" },
    }));
    await expectMatrix(of, OWN, passwordOf("alice"));
  });

  test("tokens of a token server that is there already", async () => {
    const of = await world((jwks) => ({
      mode: ["anonymous", "token"],
      token: { service: REGISTRY, external: { realm: "https://auth.example/auth", issuer: ISSUER, jwks } },
    }));
    await expectMatrix(of, EXTERNAL, await granted(of, "alice", VAULT, SITE));
  });
});
