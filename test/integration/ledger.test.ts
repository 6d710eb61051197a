/**
 * A day in small: how often Docker Hub is asked on behalf of a fleet, compared request by request with the least that is
 * possible, which the test works out from the schedule of pulls alone.
 */
import { once } from "node:events";
import http from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startTestApp } from "../support/app.ts";
import { hubUpstream } from "../support/hub-weir.ts";
import { type Image, sha256, smallImage } from "../support/images.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** 24,000 pulls over HTTP, on a machine that may be busy. */
const WHOLE_TEST_MS = 5 * MINUTE;

const NODES = 40;
const PERIOD = 10 * MINUTE;
const PERIODS = 5;
const PULLS_PER_NODE = 20;
/** Nodes that pull the same tag at the same instant. */
const AT_ONCE = 10;

const REPOSITORIES = ["library/nginx", "library/redis", "team/api", "team/web", "team/deep/er", "tools/ci"];
const TAGS = ["1", "2", "stable", "edge", "debug"].flatMap((tag) =>
  REPOSITORIES.map((repository) => ({ repository, tag })),
);

type Tag = (typeof TAGS)[number];

interface Pull {
  readonly atMs: number;
  readonly of: Tag;
  readonly nodes: readonly number[];
}

interface Move {
  readonly atMs: number;
  readonly of: Tag;
  readonly to: Image;
}

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

function nameOf({ repository, tag }: Tag): string {
  return `${repository}:${tag}`;
}

/** Every node pulls every tag 20 times within the five periods, never all of them and never all tags at once. */
function schedulePulls(): Pull[] {
  const pulls: Pull[] = [];
  for (let turn = 0; turn < PULLS_PER_NODE; turn += 1) {
    for (let first = 0; first < NODES; first += AT_ONCE) {
      TAGS.forEach((of, index) => {
        const groupMs = (first / AT_ONCE) * 31 * SECOND;
        const atMs = (turn * PERIODS * PERIOD) / PULLS_PER_NODE + groupMs + index * SECOND;
        pulls.push({ atMs, of, nodes: Array.from({ length: AT_ONCE }, (_, node) => first + node) });
      });
    }
  }
  return pulls.sort((a, b) => a.atMs - b.atMs);
}

/** Two tags move: one now and then, one so often that nobody sees each of its images. */
function scheduleMoves(): Move[] {
  const moves = (name: string, minutes: readonly number[]): Move[] =>
    minutes.map((minute) => ({
      atMs: minute * MINUTE + SECOND / 2,
      of: TAGS.find((tag) => nameOf(tag) === name) ?? { repository: "", tag: "" },
      to: smallImage(`${name} after ${minute} min`),
    }));
  return [...moves("team/api:edge", [12, 37]), ...moves("library/redis:stable", [3, 4, 5, 21, 28, 44, 49])].sort(
    (a, b) => a.atMs - b.atMs,
  );
}

/**
 * The floor: a tag is asked for once a period, when it is first wanted after the last answer's time is up; what a node
 * has not got it fetches by digest, and each manifest and blob of a repository crosses the wire once.
 */
class Floor {
  readonly lines: string[] = [];
  readonly #checked = new Map<string, { readonly atMs: number; readonly image: Image }>();
  readonly #fetched = new Set<string>();

  /** What the nodes must be given for the tag, its upstream meaning `image` by now. */
  pull({ atMs, of }: Pull, image: Image): Image {
    const last = this.#checked.get(nameOf(of));
    if (last !== undefined && atMs - last.atMs < PERIOD) return last.image;
    this.#checked.set(nameOf(of), { atMs, image });
    const base = `/v2/${of.repository}`;
    this.lines.push(`registry HEAD ${base}/manifests/${of.tag} bearer 200`);
    if (this.#isNew(`${base} ${image.root.digest}`)) {
      this.lines.push(`registry GET ${base}/manifests/${image.root.digest} bearer 200`);
    }
    for (const { digest } of image.blobs) {
      if (!this.#isNew(`${base} ${digest}`)) continue;
      const hex = digest.slice("sha256:".length);
      this.lines.push(`registry GET ${base}/blobs/${digest} bearer 307`);
      this.lines.push(`cdn GET /registry-v2/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data none 200`);
    }
    return image;
  }

  #isNew(what: string): boolean {
    const isNew = !this.#fetched.has(what);
    this.#fetched.add(what);
    return isNew;
  }
}

/** A node with what it has pulled so far; it asks for the tag each time, and for content that it does not have. */
class FleetNode {
  readonly #base: string;
  readonly #agent: http.Agent;
  readonly #has = new Set<string>();

  constructor(url: string, agent: http.Agent) {
    this.#base = `${url}/v2/docker.io`;
    this.#agent = agent;
  }

  /** Resolves with the digest that the tag has for it. */
  async pull({ repository, tag }: Tag, image: Image): Promise<string> {
    const head = await this.#ask("HEAD", `${repository}/manifests/${tag}`);
    const digest = String(head.headers["docker-content-digest"]);
    const content = [
      { path: `${repository}/manifests/${digest}`, digest },
      ...image.blobs.map((blob) => ({ path: `${repository}/blobs/${blob.digest}`, digest: blob.digest })),
    ].filter(({ path }) => !this.#has.has(path));
    await Promise.all(
      content.map(async ({ path, digest: wanted }) => {
        const { body } = await this.#ask("GET", path);
        expect([path, sha256(body)]).toEqual([path, wanted]);
        this.#has.add(path);
      }),
    );
    return digest;
  }

  async #ask(method: string, path: string): Promise<{ headers: http.IncomingHttpHeaders; body: Buffer }> {
    const request = http.request(`${this.#base}/${path}`, { method, agent: this.#agent }).end();
    const [response] = (await once(request, "response")) as [http.IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    expect([path, response.statusCode]).toEqual([path, 200]);
    return { headers: response.headers, body: Buffer.concat(chunks) };
  }
}

test(
  "M1 thirty tags, forty nodes, twenty pulls each in five periods, two tags moving: Docker Hub is asked the least that is possible",
  async () => {
    const clock = new ManualClock();
    const startMs = clock.now();
    const hub = await startHubDouble(stack, { now: () => clock.now() });
    const now = new Map<string, Image>();
    const put = (of: Tag, image: Image): void => {
      hub.add(of.repository, image, [of.tag]);
      now.set(nameOf(of), image);
    };
    for (const of of TAGS) put(of, smallImage(nameOf(of)));
    const weir = await startTestApp(stack, {
      clock,
      config: { upstreams: { "docker.io": hubUpstream(hub) }, freshness: { default: "10m", rules: [] } },
    });
    const agent = new http.Agent({ keepAlive: true, maxSockets: NODES });
    stack.defer(() => agent.destroy());
    const nodes = Array.from({ length: NODES }, () => new FleetNode(weir.url, agent));

    const floor = new Floor();
    const moves = scheduleMoves();
    let pulls = 0;
    for (const pull of schedulePulls()) {
      clock.advance(startMs + pull.atMs - clock.now());
      for (let move = moves[0]; move !== undefined && move.atMs <= pull.atMs; move = moves[0]) {
        put(move.of, move.to);
        moves.shift();
      }
      const image = floor.pull(pull, now.get(nameOf(pull.of)) ?? smallImage(""));
      const got = await Promise.all(pull.nodes.map((node) => nodes[node]?.pull(pull.of, image)));
      expect([pull.atMs, nameOf(pull.of), new Set(got)]).toEqual([
        pull.atMs,
        nameOf(pull.of),
        new Set([image.root.digest]),
      ]);
      pulls += got.length;
    }
    expect(pulls).toBe(TAGS.length * NODES * PULLS_PER_NODE);
    expect(moves).toEqual([]);

    // The very first question is how Weir learns where tokens come from.
    const [first, ...rest] = hub.lines().filter((line) => !line.startsWith("token "));
    expect(first).toMatch(/^registry HEAD \S+ none 401$/);
    expect(rest.sort()).toEqual(floor.lines.sort());
    // In figures: a HEAD for each tag and period, and a GET for each image that a period found: two of either moving tag.
    expect(hub.count({ method: "HEAD", status: 200 })).toBe(TAGS.length * PERIODS);
    expect(hub.count({ role: "registry", method: "GET", path: /\/manifests\// })).toBe(TAGS.length + 2 + 2);
  },
  WHOLE_TEST_MS,
);
