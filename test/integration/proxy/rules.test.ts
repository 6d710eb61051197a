import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { anonymous, type Identity } from "../../../src/access/identity.ts";
import type { Digest } from "../../../src/oci/digest.ts";
import { OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { parseScope } from "../../../src/oci/scope.ts";
import { DAY, HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";
import { type Reply, request, rulesOf } from "../../support/rules.ts";

const LAYER = "the bytes of a layer";

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

const NOBODY = anonymous("192.0.2.7");

function account(name: string, over: Partial<Identity> = {}): Identity {
  return { ...NOBODY, account: name, via: "password", ...over };
}

const ALICE = account("alice");
const BOB = account("bob");

interface Image {
  readonly manifest: Digest;
  readonly blob: Digest;
}

/** An image with one layer under a tag. */
function push(repository: string, tag = "1", content = LAYER, upstream = bench.hub): Image {
  const blob = upstream.pushBlob(repository, Buffer.from(content));
  const layers = [{ mediaType: "application/tar", digest: blob, size: content.length }];
  return { blob, manifest: upstream.push(repository, OCI_MANIFEST, { schemaVersion: 2, repository, layers }, tag) };
}

/** Every verb about an image, as the path behind the repository's name. */
function verbs({ manifest, blob }: Image): readonly (readonly ["GET" | "HEAD", string])[] {
  return [
    ["GET", "manifests/1"],
    ["HEAD", "manifests/1"],
    ["GET", `manifests/${manifest}`],
    ["HEAD", `manifests/${manifest}`],
    ["GET", `blobs/${blob}`],
    ["HEAD", `blobs/${blob}`],
    ["GET", "tags/list"],
    ["GET", `referrers/${manifest}`],
  ];
}

/** Every way in which clients write a repository of Docker Hub (clients.md, section 2). `library/` comes on top. */
const FORMS: readonly (readonly [string, (rest: string) => { readonly target: string; readonly host?: string }])[] = [
  ["prefix", (rest) => ({ target: `/v2/docker.io/team/app/${rest}` })],
  ["alias", (rest) => ({ target: `/v2/index.docker.io/team/app/${rest}` })],
  ["upper case", (rest) => ({ target: `/v2/Docker.IO/team/app/${rest}` })],
  ["encoded", (rest) => ({ target: `/v2/docker%2Eio/te%61m/app/${rest}` })],
  ["default", (rest) => ({ target: `/v2/team/app/${rest}` })],
  ["ns", (rest) => ({ target: `/v2/team/app/${rest}?ns=docker.io` })],
  ["ns, an alias", (rest) => ({ target: `/v2/team/app/${rest}?ns=registry-1.docker.io` })],
  ["ns and prefix", (rest) => ({ target: `/v2/docker.io/team/app/${rest}?ns=Docker.io` })],
  ["ns and prefix before /v2", (rest) => ({ target: `/docker.io/v2/team/app/${rest}?ns=docker.io` })],
  ["prefix before /v2", (rest) => ({ target: `/docker.io/v2/team/app/${rest}` })],
  ["virtual host", (rest) => ({ target: `/v2/team/app/${rest}`, host: "hub.mirror.example" })],
  ["virtual host, upper case", (rest) => ({ target: `/v2/team/app/${rest}`, host: "HUB.mirror.example:5000" })],
];

/** Every verb in every form. */
async function everything(image: Image, who: Identity): Promise<readonly (readonly [string, Reply])[]> {
  const replies: [string, Reply][] = [];
  for (const [form, write] of FORMS) {
    for (const [method, rest] of verbs(image)) {
      const { target, ...host } = write(rest);
      replies.push([`${form}: ${method} ${rest}`, await request(bench.proxy, target, { who, method, ...host })]);
    }
  }
  return replies;
}

async function expectAllRefused(image: Image, who: Identity, key: string): Promise<void> {
  for (const [name, { status, key: by }] of await everything(image, who)) {
    expect([name, status, by]).toEqual([name, 403, key]);
  }
}

async function get(path: string, who: Identity = NOBODY, method: "GET" | "HEAD" = "GET"): Promise<Reply> {
  return await request(bench.proxy, `/v2/${path}`, { who, method });
}

async function catalog(who: Identity): Promise<readonly string[]> {
  return JSON.parse((await get("_catalog", who)).body).repositories;
}

/** Everything of the image, by somebody who may. */
async function pull(image: Image, who: Identity, repository = "docker.io/team/app"): Promise<void> {
  expect((await get(`${repository}/manifests/1`, who)).status).toBe(200);
  expect((await get(`${repository}/blobs/${image.blob}`, who)).body).toBe(LAYER);
}

describe("the matrix", () => {
  const rules = () =>
    rulesOf(
      { effect: "deny", accounts: ["mallory"] },
      { accounts: ["alice"] },
      { groups: ["dev"], what: ["docker.io/team/*"], actions: ["pull"] },
      { from: ["10.0.0.0/8"], what: ["docker.io/library/**"] },
    );
  const outsiders: [string, Identity, string][] = [
    ["an account that a rule denies", account("mallory"), "access.rules[0]"],
    ["an account that no rule has", BOB, "access.rules"],
    ["nobody", NOBODY, "access.rules"],
    ["nobody, from a network that has something else", { ...NOBODY, address: "10.1.2.3" }, "access.rules"],
  ];

  test.each(outsiders)(
    "A3 %s: each verb in each form is refused by the same rule, cold and held",
    async (_, who, key) => {
      const image = push("team/app");
      bench.accessRules = rules();
      await expectAllRefused(image, who, key);
      expect(bench.hub.taken()).toEqual([]);
      await pull(image, ALICE);
      bench.hub.taken();
      await expectAllRefused(image, who, key);
      expect(await catalog(who)).toEqual([]);
      expect(bench.hub.taken()).toEqual([]);
      expect(await catalog(ALICE)).toEqual(["docker.io/team/app"]);
    },
  );

  test("A3 whom a rule lets in is let in by each verb and form", async () => {
    const image = push("team/app");
    bench.accessRules = rules();
    for (const [name, { status }] of await everything(image, ALICE)) {
      expect([name, status]).toEqual([name, 200]);
    }
  });

  test("A3 library/ in every form meets one rule", async () => {
    push("library/nginx");
    bench.accessRules = rulesOf({ effect: "deny", what: ["docker.io/nginx"] }, {});
    for (const target of [
      "/v2/nginx/manifests/1",
      "/v2/library/nginx/manifests/1",
      "/v2/docker.io/nginx/manifests/1",
      "/v2/index.docker.io/library/nginx/manifests/1",
      "/v2/nginx/manifests/1?ns=docker.io",
      "/docker.io/v2/nginx/manifests/1",
    ]) {
      expect([target, (await request(bench.proxy, target)).key]).toEqual([target, "access.rules[0]"]);
    }
    expect(bench.hub.taken()).toEqual([]);
  });

  test("two upstreams with the same repository are told apart", async () => {
    push("team/app", "1", LAYER, bench.other);
    push("team/app");
    bench.accessRules = rulesOf({ what: ["other.example/**"] });
    expect((await get("other.example/team/app/manifests/1")).status).toBe(200);
    expect((await get("docker.io/team/app/manifests/1")).key).toBe("access.rules");
    expect(bench.hub.taken()).toEqual([]);
  });

  test("a rule about tags: requests by tag, the list of tags, and what an allowed tag leads to", async () => {
    const image = push("team/app", "v1");
    push("team/app", "dev", "another layer");
    bench.accessRules = rulesOf({ what: ["docker.io/team/app:v*"] });
    expect((await get("team/app/manifests/v1")).status).toBe(200);
    expect((await get("team/app/manifests/dev")).key).toBe("access.rules");
    expect((await get(`team/app/manifests/${image.manifest}`)).status).toBe(200);
    expect((await get(`team/app/blobs/${image.blob}`)).status).toBe(200);
    expect(JSON.parse((await get("team/app/tags/list")).body).tags).toEqual(["v1"]);
  });

  test("rules are live", async () => {
    const image = push("team/app");
    await pull(image, NOBODY);
    bench.accessRules = rulesOf({ accounts: ["alice"] });
    expect((await get("team/app/manifests/1")).key).toBe("access.rules");
    bench.accessRules = rulesOf({});
    expect((await get("team/app/manifests/1")).status).toBe(200);
  });

  test("a token's grants narrow what the rules allow, and the catalog", async () => {
    const image = push("team/app");
    const other = push("team/other");
    bench.accessRules = rulesOf({ accounts: ["alice"] });
    await pull(image, ALICE);
    await pull(other, ALICE, "docker.io/team/other");
    const granted = (...scopes: readonly string[]): Identity =>
      account("alice", { via: "token", grants: scopes.flatMap((scope) => parseScope(scope) ?? []) });
    const narrow = granted("repository:docker.io/team/app:pull");
    expect((await get("team/app/manifests/1", narrow)).status).toBe(200);
    expect(await get("team/other/manifests/1", narrow)).toMatchObject({ status: 403, key: "access.mode" });
    expect(await catalog(narrow)).toEqual(["docker.io/team/app"]);
    expect(await catalog(granted())).toEqual([]);
  });
});

describe("pull without fetch: what is held, and nothing else", () => {
  const rules = () => rulesOf({ accounts: ["alice"], private: true }, { actions: ["pull"], private: true });
  const FETCH = "access.rules";

  test("cold: every verb is refused, and the upstream is asked nothing", async () => {
    const image = push("team/app");
    bench.accessRules = rules();
    await expectAllRefused(image, BOB, FETCH);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("held: every verb is answered, and the upstream is asked nothing", async () => {
    const image = push("team/app");
    bench.accessRules = rules();
    await pull(image, ALICE);
    await get(`team/app/referrers/${image.manifest}`, ALICE);
    bench.hub.taken();
    for (const [name, { status }] of await everything(image, BOB)) {
      expect([name, status]).toEqual([name, 200]);
    }
    expect(bench.hub.taken()).toEqual([]);
    expect(JSON.parse((await get("team/app/tags/list", BOB)).body).tags).toEqual(["1"]);
    expect((await get("team/app/manifests/2", BOB)).key).toBe(FETCH);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("past its time to live the held tag is answered as it is, with a warning", async () => {
    const image = push("team/app");
    bench.accessRules = rules();
    await pull(image, ALICE);
    push("team/app", "1", "something newer");
    bench.clock.advance(400 * DAY);
    bench.hub.taken();
    const reply = await bench.get("docker.io/team/app:1", { caller: { identity: BOB, client: "" } });
    expect(reply).toMatchObject({ digest: image.manifest, cache: { outcome: "stale", detail: "withheld" } });
    expect(reply.cache.warning).toContain("no rule allows bob fetch of docker.io/team/app:1");
    expect(bench.stale).toEqual(["withheld"]);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("what a HEAD of somebody else has named and nobody has fetched is not held", async () => {
    push("team/app");
    bench.accessRules = rules();
    expect((await get("team/app/manifests/1", ALICE, "HEAD")).status).toBe(200);
    bench.hub.taken();
    expect((await get("team/app/manifests/1", BOB, "HEAD")).key).toBe(FETCH);
    expect((await get("team/app/manifests/1", BOB)).key).toBe(FETCH);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("what is being fetched for somebody else is not joined: neither a manifest nor a blob", async () => {
    const image = push("team/app");
    bench.accessRules = rules();
    const gates = { manifest: Promise.withResolvers<void>(), blob: Promise.withResolvers<void>() };
    bench.hub.gate = gates.manifest.promise;
    const manifest = get("team/app/manifests/1", ALICE);
    expect((await get("team/app/manifests/1", BOB)).key).toBe(FETCH);
    expect((await get(`team/app/manifests/${image.manifest}`, BOB)).key).toBe(FETCH);
    gates.manifest.resolve();
    expect((await manifest).status).toBe(200);
    bench.fills.gate = gates.blob.promise;
    const blob = get(`team/app/blobs/${image.blob}`, ALICE);
    expect((await get(`team/app/blobs/${image.blob}`, BOB)).key).toBe(FETCH);
    expect((await get(`team/app/blobs/${image.blob}`, BOB, "HEAD")).key).toBe(FETCH);
    gates.blob.resolve();
    expect((await blob).body).toBe(LAYER);
    expect((await get(`team/app/blobs/${image.blob}`, BOB)).body).toBe(LAYER);
    expect(bench.hub.taken()).toEqual(["GET team/app:1", `GET blob team/app@${image.blob}`]);
  });

  test("a refusal stands in nobody else's way", async () => {
    const image = push("team/app");
    bench.accessRules = rules();
    expect((await get("team/app/manifests/1", BOB)).status).toBe(403);
    expect((await get(`team/app/blobs/${image.blob}`, BOB)).status).toBe(403);
    await pull(image, ALICE);
  });

  test("a held blob is not held for a repository that has not been proved to have it", async () => {
    const image = push("team/app");
    push("team/copy");
    bench.accessRules = rules();
    await pull(image, ALICE);
    bench.hub.taken();
    expect((await get(`team/copy/blobs/${image.blob}`, BOB)).key).toBe(FETCH);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("M5 a private repository: the right to it is asked for anew, what it holds is not", async () => {
    const image = push("team/app");
    bench.hub.credentialed.add("team/app");
    bench.hub.private.add("team/app");
    bench.accessRules = rules();
    expect((await get("team/app/manifests/1", BOB)).key).toBe(FETCH);
    expect(bench.hub.taken()).toEqual([]);
    await pull(image, ALICE);
    bench.clock.advance(2 * HOUR);
    bench.hub.taken();
    expect((await get(`team/app/blobs/${image.blob}`, BOB)).body).toBe(LAYER);
    expect(bench.hub.taken()).toEqual(["HEAD team/app:1"]);
    expect((await get("team/app/manifests/1", BOB)).cache).toBe("stale");
    expect((await get(`team/app/manifests/${image.manifest}`, BOB)).status).toBe(200);
    expect(bench.hub.taken()).toEqual([]);
    bench.hub.denied.add("team/app");
    bench.clock.advance(2 * HOUR);
    expect((await get(`team/app/blobs/${image.blob}`, BOB)).key).toBe(FETCH);
    expect((await get("team/app/manifests/1", BOB)).key).toBe(FETCH);
  });
});

describe("two tenants and their private repositories", () => {
  /** Each has one, of which the other knows every tag and digest. */
  const rules = () =>
    rulesOf(
      { accounts: ["alice"], what: ["docker.io/team/app", "docker.io/library/**"], private: true },
      { accounts: ["bob"], what: ["docker.io/rival/**", "other.example/**", "docker.io/library/**"], private: true },
    );

  beforeEach(() => {
    for (const repository of ["team/app", "rival/app"]) {
      bench.hub.credentialed.add(repository);
      bench.hub.private.add(repository);
    }
    bench.accessRules = rules();
  });

  test("A1 B is refused A's by every verb and form: cold, in flight, warm, negative, after a restart, stale", async () => {
    const image = push("team/app");
    await expectAllRefused(image, BOB, "access.rules");
    expect(bench.hub.taken()).toEqual([]);

    const gate = Promise.withResolvers<void>();
    await get("team/app/manifests/1", ALICE);
    bench.fills.gate = gate.promise;
    const blob = get(`team/app/blobs/${image.blob}`, ALICE);
    await expectAllRefused(image, BOB, "access.rules");
    gate.resolve();
    expect((await blob).body).toBe(LAYER);

    await expectAllRefused(image, BOB, "access.rules");
    expect((await get("team/app/manifests/absent", ALICE)).status).toBe(404);
    expect((await get("team/app/manifests/absent", BOB)).key).toBe("access.rules");
    expect(await catalog(BOB)).toEqual([]);

    await bench.restart();
    await expectAllRefused(image, BOB, "access.rules");
    bench.hub.fail("connect");
    bench.clock.advance(2 * DAY);
    await expectAllRefused(image, BOB, "access.rules");
    expect((await get("team/app/manifests/1", ALICE)).cache).toBe("stale");
    await expectAllRefused(image, BOB, "access.rules");
  });

  test("A1 the digests of A's, asked for by a repository that B may read", async () => {
    const image = push("team/app");
    push("rival/app", "1", "the layer of a rival");
    push("library/nginx", "1", "a public layer");
    await pull(image, ALICE);
    for (const repository of ["rival/app", "docker.io/library/nginx"]) {
      for (const path of [`blobs/${image.blob}`, `manifests/${image.manifest}`]) {
        expect((await get(`${repository}/${path}`, BOB)).status).toBe(404);
      }
    }
  });

  test("A2 an upstream of B's that confirms A's digests gets none of their bytes out, in flight neither", async () => {
    const image = push("team/app");
    bench.other.confirmsEverything = true;
    bench.other.credentialed.add("rival/app");
    const foreign = async (): Promise<void> => {
      for (const path of [`blobs/${image.blob}`, `manifests/${image.manifest}`]) {
        const reply = await get(`other.example/rival/app/${path}`, BOB);
        expect(reply.status).toBeGreaterThanOrEqual(400);
        expect(reply.body).not.toContain(LAYER);
      }
    };
    await get("team/app/manifests/1", ALICE);
    const gate = Promise.withResolvers<void>();
    bench.fills.gate = gate.promise;
    const blob = get(`team/app/blobs/${image.blob}`, ALICE);
    const beside = foreign();
    gate.resolve();
    expect((await blob).body).toBe(LAYER);
    await beside;
    bench.clock.advance(MINUTE);
    await foreign();
  });

  test("A1 pull without fetch: what is held of private repositories does not show, either", async () => {
    const image = push("team/app");
    bench.hub.credentialed.add("team/absent");
    bench.hub.private.add("team/absent");
    bench.accessRules = rulesOf({ accounts: ["alice"], private: true }, { actions: ["pull"] });
    await pull(image, ALICE);
    bench.hub.taken();
    for (const repository of ["team/app", "team/absent"]) {
      for (const [method, path] of verbs(image)) {
        const { status, key, body } = await get(`${repository}/${path}`, BOB, method);
        const told = body.replaceAll(repository, "REPOSITORY");
        const expected = expect.stringContaining("REPOSITORY is not public at its registry");
        expect([repository, path, status, key, told]).toEqual([
          repository,
          path,
          403,
          "access.rules[1].private",
          expected,
        ]);
      }
    }
    expect(bench.hub.taken()).toEqual([]);
  });

  test("a rule that names nobody opens nothing private unless it says so; the refusal names the key", async () => {
    const image = push("team/app");
    bench.accessRules = rulesOf({ accounts: ["alice"], private: true }, { from: ["192.0.2.0/24"] });
    await pull(image, ALICE);
    expect(await get("team/app/manifests/1", BOB)).toMatchObject({ status: 403, key: "access.rules[1].private" });
    expect(await catalog(NOBODY)).toEqual([]);
    bench.accessRules = rulesOf({ from: ["192.0.2.0/24"], private: true });
    expect((await get("team/app/manifests/1", NOBODY)).status).toBe(200);
    expect(await catalog(NOBODY)).toEqual(["docker.io/team/app"]);
    bench.accessRules = rulesOf({});
    expect((await get("team/app/manifests/1", NOBODY)).key).toBe("access.rules[0].private");
    bench.privateToAnonymous = true;
    expect((await get("team/app/manifests/1", NOBODY)).status).toBe(200);
  });
});

test("an older client is not led by an index to what is not held", async () => {
  const child = push("library/nginx", "child");
  const platform = { os: "linux", architecture: "amd64" };
  const manifests = [{ mediaType: OCI_MANIFEST, digest: child.manifest, size: 1, platform }];
  bench.hub.push("library/nginx", OCI_INDEX, { schemaVersion: 2, manifests }, "1");
  bench.accessRules = rulesOf({ accounts: ["alice"] }, { actions: ["pull"] });
  await get("library/nginx/manifests/1", ALICE);
  bench.hub.taken();
  const single = bench.get("docker.io/library/nginx:1", {
    caller: { identity: BOB, client: "" },
    accept: OCI_MANIFEST,
  });
  await expect(single).rejects.toMatchObject({ code: "DENIED", detail: { key: "access.rules" } });
  expect(bench.hub.taken()).toEqual([]);
});
