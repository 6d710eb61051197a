/**
 * A load on Weir that is known to the last request: what clients asked for and what they were given, as the script says, and
 * what upstreams were asked, as the upstreams say.
 */
import { existsSync } from "node:fs";
import { stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { bigImage, type Content, type Image, sha256, smallImage } from "../../support/images.ts";
import { fillsOver } from "../../support/metrics.ts";
import { httpRequest } from "../../support/network.ts";
import { freePort, tempFolder, until } from "../../support/processes.ts";
import { type RedisServer, startRedis } from "../../support/redis.ts";
import { startDistributionDouble } from "../../support/registries/distribution.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import type { LedgerEntry } from "../../support/registries/double-server.ts";
import type { RegistryDouble } from "../../support/registries/registry-double.ts";
import { basic, htpasswd } from "../../support/sign-in.ts";
import { startWeir, type WeirProcess } from "../../support/weir.ts";

const MiB = 1024 * 1024;

/** One request of a client, and how it was to be answered. */
export interface Asked {
  readonly upstream: string;
  readonly kind: "manifest" | "blob" | "base";
  readonly method: "GET" | "HEAD";
  readonly code: number;
  readonly cache: string;
  /** Of the body. */
  readonly bytes: number;
}

/** One request that an upstream saw. */
export interface Exchanged {
  readonly upstream: string;
  readonly kind: "manifest" | "blob" | "base" | "token";
  readonly method: string;
  /** How it signed in: none, basic or bearer. */
  readonly authorization: string;
  readonly code: number;
  readonly bytes: number;
}

/** What one round of the load did. */
export interface Round {
  readonly asked: readonly Asked[];
  readonly exchanged: readonly Exchanged[];
  /** By upstream. */
  readonly stale: Readonly<Record<string, number>>;
  readonly mismatches: Readonly<Record<string, number>>;
  readonly resumes: Readonly<Record<string, number>>;
  /** Of `small.example`, by what the disk gave back. */
  readonly evictedBytes: number;
  readonly manifestsKept: number;
  readonly blobsKept: number;
  readonly denied: number;
  readonly peersRefused: number;
  readonly signInsFailed: number;
  /** Connections on which something else than HTTP was spoken. */
  readonly malformed: number;
}

export const LIMIT_BYTES = 500 * MiB;

const RETRY_AFTER_S = 1;

const PROBLEM = { kind: "status", status: 500 } as const;

export class Load {
  readonly weir: WeirProcess;
  readonly hub: HubDouble;
  readonly limited: HubDouble;
  readonly broken: RegistryDouble;
  readonly redis: RedisServer;
  readonly #doubles: ReadonlyMap<string, RegistryDouble>;
  readonly #clusterPort: number;
  #asked: Asked[] = [];
  #rounds = 0;
  #refusedUntilMs = 0;
  #evictable: Content[] = [];

  private constructor(
    o: Pick<Load, "weir" | "hub" | "limited" | "broken" | "redis">,
    doubles: ReadonlyMap<string, RegistryDouble>,
    clusterPort: number,
  ) {
    this.weir = o.weir;
    this.hub = o.hub;
    this.limited = o.limited;
    this.broken = o.broken;
    this.redis = o.redis;
    this.#doubles = doubles;
    this.#clusterPort = clusterPort;
  }

  static async start(stack: AsyncDisposableStack): Promise<Load> {
    const hub = await startHubDouble(stack);
    hub.quota = { limit: 200, windowS: 21_600, remaining: 180 };
    const limited = await startHubDouble(stack);
    limited.quota = { limit: 100, windowS: 21_600, remaining: 0 };
    limited.retryAfterS = RETRY_AFTER_S;
    const plain = { auth: "none" } as const;
    const wrong = await startDistributionDouble(stack, plain);
    const small = await startDistributionDouble(stack, plain);
    const broken = await startDistributionDouble(stack, plain);
    broken.fail({ role: "registry", effect: PROBLEM });
    const secret = await startDistributionDouble(stack, {
      auth: "basic",
      accounts: [{ username: "ci", password: "right password", repositories: ["app"] }],
    });
    const redis = await startRedis(stack);
    const clusterPort = await freePort();
    const upstreamOf = (double: RegistryDouble) => ({
      endpoints: [double.url],
      redirects: { allow: ["127.0.0.0/8"] },
      quotaProbe: "off",
    });
    const hubOf = (double: HubDouble) => ({
      ...upstreamOf(double),
      type: "dockerhub",
      realms: [new URL(double.tokenUrl).hostname],
    });
    const root = join(await tempFolder(stack), "data");
    const passwords = join(await tempFolder(stack), "htpasswd");
    await writeFile(passwords, await htpasswd({ alice: "a password" }));
    const weir = await startWeir(stack, {
      root,
      config: {
        upstreams: {
          "docker.io": hubOf(hub),
          "limited.example": hubOf(limited),
          "wrong.example": upstreamOf(wrong),
          "small.example": { ...upstreamOf(small), maxSize: "1500KiB", deny: ["secret/**"] },
          "broken.example": upstreamOf(broken),
          "private.example": {
            ...upstreamOf(secret),
            credentials: [{ label: "ci", username: "ci", password: "wrong password" }],
          },
        },
        // However slow this machine is: a late answer would be another outcome.
        freshness: { softDeadline: "1m", rules: [{ match: "**:moving-*", ttl: "1ms" }] },
        storage: { maxSize: LIMIT_BYTES, filesystem: { root } },
        access: { privateToAnonymous: true, mode: ["anonymous", "htpasswd"], htpasswd: { file: passwords } },
        state: { driver: "redis", redis: { url: redis.url } },
        cluster: { listen: `127.0.0.1:${clusterPort}`, secret: "of more than sixteen characters" },
        telemetry: { logLevel: "info" },
      },
      secrets: ["right password", "wrong password"],
    });
    const doubles = new Map<string, RegistryDouble>([
      ["docker.io", hub],
      ["limited.example", limited],
      ["wrong.example", wrong],
      ["small.example", small],
      ["broken.example", broken],
      ["private.example", secret],
    ]);
    return new Load({ weir, hub, limited, broken, redis }, doubles, clusterPort);
  }

  get upstreams(): readonly string[] {
    return [...this.#doubles.keys()];
  }

  async round(): Promise<Round> {
    this.#rounds += 1;
    this.#asked = [];
    for (const double of this.#doubles.values()) double.clearLedger();
    await this.#holding();
    await this.#stale();
    await this.#overQuota();
    await this.#brokenBodies();
    const evictedBytes = await this.#evicting();
    for (let n = 0; n < 2; n += 1) {
      await this.#get("broken.example", "app/manifests/1", { code: 502, cache: "miss" });
    }
    await this.#get("private.example", "app/manifests/1", { code: 502, cache: "miss" });
    await this.#get("small.example", "secret/app/manifests/1", { code: 403, cache: "none" });
    await this.#strangers();
    const { status } = await httpRequest(`http://127.0.0.1:${this.#clusterPort}/v1/fill`);
    expect(status).toBe(403);
    await fillsOver(this.weir);
    return {
      asked: this.#asked,
      exchanged: [...this.#doubles].flatMap(([name, { ledger }]) => ledger.map((entry) => exchangeOf(name, entry))),
      stale: { "docker.io": 1 },
      mismatches: { "wrong.example": 1 },
      resumes: { "wrong.example": 1 },
      evictedBytes,
      // Of docker.io two, of the others one; layers and configurations: three, one and two.
      manifestsKept: 5,
      blobsKept: 6,
      denied: 1,
      peersRefused: 1,
      signInsFailed: 1,
      malformed: 1,
    };
  }

  /** A pull of what is new, the same again, a tag whose time is up, and what there is not. */
  async #holding(): Promise<void> {
    const [fresh, moving] = [this.#tag("fresh"), this.#tag("moving")];
    const image = this.#image("docker.io", "library/app", fresh);
    this.#image("docker.io", "library/app", moving);
    await this.#pull("docker.io", "library/app", fresh, image, "miss");
    for (let n = 0; n < 3; n += 1) await this.#pull("docker.io", "library/app", fresh, image, "hit");
    await this.#get("docker.io", `library/app/manifests/${moving}`, { code: 200, cache: "miss" });
    await overdue();
    await this.#get("docker.io", `library/app/manifests/${moving}`, { code: 200, cache: "revalidated" });
    const none = `library/${this.#tag("none")}/manifests/1`;
    await this.#get("docker.io", none, { code: 404, cache: "miss" });
    await this.#get("docker.io", none, { code: 404, cache: "negative" });
  }

  async #stale(): Promise<void> {
    const mended = this.hub.fail({ role: "registry", path: /manifests/, effect: PROBLEM });
    await overdue();
    await this.#get("docker.io", `library/app/manifests/${this.#tag("moving")}`, { code: 200, cache: "stale" });
    mended();
  }

  /** The last pull that is left, and one more. */
  async #overQuota(): Promise<void> {
    await until("the limit to be open again", () => Date.now() > this.#refusedUntilMs);
    if (this.limited.quota !== undefined) this.limited.quota.remaining = 1;
    for (const [name, code] of [
      ["last", 200],
      ["over", 429],
    ] as const) {
      this.#image("limited.example", "library/app", this.#tag(name));
      await this.#get("limited.example", `library/app/manifests/${this.#tag(name)}`, { code, cache: "miss" });
    }
    this.#refusedUntilMs = Date.now() + RETRY_AFTER_S * 1000;
  }

  /** A blob with a wrong byte, and one that breaks off. */
  async #brokenBodies(): Promise<void> {
    const double = this.#double("wrong.example");
    const tag = this.#tag("broken");
    const image = this.#image("wrong.example", "app", tag, bigImage(tag, MiB));
    await this.#get("wrong.example", `app/manifests/${tag}`, { code: 200, cache: "miss" });
    const [config, layer] = image.blobs;
    if (config === undefined || layer === undefined) throw new Error("an image has a configuration and a layer");
    const right = double.fail({ role: "cdn", path: blobPath(config), effect: { kind: "wrong-byte", at: 1 } });
    await this.#get("wrong.example", `app/blobs/${config.digest}`, { code: 502, cache: "miss" });
    await fillsOver(this.weir);
    right();
    double.fail({
      role: "cdn",
      path: blobPath(layer),
      nth: [1],
      effect: { kind: "cut", afterBytes: MiB / 2 },
    });
    await this.#get("wrong.example", `app/blobs/${layer.digest}`, { code: 200, cache: "miss" }, layer);
  }

  /** Two layers do not fit: the one of the last round goes. */
  async #evicting(): Promise<number> {
    const tag = this.#tag("small");
    const image = this.#image("small.example", "app", tag, bigImage(tag, MiB));
    const before = await this.#occupied(this.#evictable);
    await this.#pull("small.example", "app", tag, image, "miss");
    await fillsOver(this.weir);
    const gone = this.#evictable.find(({ bytes }) => bytes.length > MiB);
    if (gone !== undefined) await until("the eviction", () => !existsSync(this.#path(gone)));
    const after = await this.#occupied(this.#evictable);
    this.#evictable = [...this.#evictable, ...image.blobs, ...image.manifests];
    return before - after;
  }

  /** One with a wrong password, and one that does not speak HTTP. */
  async #strangers(): Promise<void> {
    const authorization = basic("somebody", "a guess");
    await this.#get("docker.io", "library/app/manifests/1", { code: 401, cache: "none", authorization });
    const { hostname, port } = new URL(this.weir.url);
    const socket = connect(Number(port), hostname).resume();
    const closed = Promise.withResolvers<void>();
    // However it ends.
    socket.once("close", () => closed.resolve()).on("error", () => {});
    socket.end("something else\r\n\r\n");
    await closed.promise;
  }

  #path({ digest }: Content): string {
    const hex = digest.slice("sha256:".length);
    return join(this.weir.root, "docker/registry/v2/blobs/sha256", hex.slice(0, 2), hex, "data");
  }

  async #occupied(contents: readonly Content[]): Promise<number> {
    const sizes = contents
      .map((content) => this.#path(content))
      .filter((path) => existsSync(path))
      .map(async (path) => ((await stat(path)).blocks + (await stat(dirname(path))).blocks) * 512);
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  #image(upstream: string, repository: string, tag: string, image = smallImage(tag)): Image {
    this.#double(upstream).add(repository, image, [tag]);
    return image;
  }

  /** Every round has tags of its own. */
  #tag(name: string): string {
    return `${name}-${this.#rounds}`;
  }

  #double(upstream: string): RegistryDouble {
    const double = this.#doubles.get(upstream);
    if (double === undefined) throw new Error(`there is no ${upstream}`);
    return double;
  }

  async #pull(upstream: string, repository: string, tag: string, image: Image, cache: string): Promise<void> {
    await this.#get(upstream, `${repository}/manifests/${tag}`, { code: 200, cache }, image.root);
    for (const blob of image.blobs) {
      await this.#get(upstream, `${repository}/blobs/${blob.digest}`, { code: 200, cache }, blob);
      // Only then it is held.
      await fillsOver(this.weir);
    }
  }

  async #get(
    upstream: string,
    path: string,
    { code, cache, authorization }: Pick<Asked, "code" | "cache"> & { readonly authorization?: string },
    content?: Content,
  ): Promise<void> {
    const { status, body, headers } = await httpRequest(
      `${this.weir.url}/v2/${upstream}/${path}`,
      authorization === undefined ? {} : { headers: { authorization } },
    );
    expect([path, status, code === status ? "" : body.toString()]).toEqual([path, code, ""]);
    if (content !== undefined) expect(sha256(body)).toBe(content.digest);
    expect(headers["content-length"]).toBe(String(body.length));
    const kind = path.includes("/manifests/") ? "manifest" : "blob";
    this.#asked.push({ upstream, kind, method: "GET", code, cache, bytes: body.length });
  }
}

/** Longer than the time to live of a moving tag. */
function overdue(): Promise<void> {
  return delay(5);
}

function blobPath({ digest }: Content): RegExp {
  return new RegExp(`/${digest.slice("sha256:".length)}/data$`);
}

function exchangeOf(upstream: string, { role, method, path, authorization, status, bytes }: LedgerEntry): Exchanged {
  const kind = role === "token" ? "token" : path.includes("/manifests/") ? "manifest" : "blob";
  return { upstream, kind: path === "/v2/" ? "base" : kind, method, authorization, code: status, bytes };
}
