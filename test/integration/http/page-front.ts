/** The status page behind a real socket, over an overview that a test makes up, and somebody who looks at it. */
import { expect } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { Secret } from "../../../src/base/secret.ts";
import { type AdminServer, createAdminServer } from "../../../src/http/admin.ts";
import type { PageSource } from "../../../src/http/page/page-source.ts";
import type { Overview } from "../../../src/proxy/overview/overview.ts";
import type { Upkeep } from "../../../src/proxy/upkeep/upkeep.ts";
import { fakeOverview, fakePage } from "../../support/fake-page.ts";
import { fakeUpkeep } from "../../support/fake-upkeep.ts";
import { type Element, find, parseHtml } from "../../support/html-tree.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { type HttpReply, httpRequest } from "../../support/network.ts";
import {
  sampleExplanation,
  sampleFills,
  samplePulls,
  sampleRepositories,
  sampleRepository,
  sampleRequest,
  sampleStorage,
  sampleUpstreams,
} from "../../support/page-samples.ts";

export const TOKEN = "the-token-of-the-operator-0123";
export const NOW = Date.UTC(2026, 0, 1);

export interface FrontOptions {
  /** Empty for none. */
  readonly token?: string;
  readonly overview?: Partial<Overview>;
  readonly upkeep?: Partial<Upkeep>;
  readonly page?: Partial<PageSource>;
}

export type Headers = Readonly<Record<string, string>>;

export interface SignedIn {
  readonly cookie: string;
  /** What its forms bring along. */
  readonly form: string;
}

const OVERVIEW: Overview = {
  upstreams: async () => sampleUpstreams(NOW),
  storage: async () => sampleStorage(),
  fills: async () => sampleFills(NOW),
  recent: async () => samplePulls(NOW),
  repositories: async () => ({ total: 5, complete: true, repositories: sampleRepositories(NOW) }),
  repository: async () => sampleRepository(NOW),
};

export class PageFront {
  readonly clock = new ManualClock(NOW);
  readonly logged: unknown[][] = [];
  /** What was done by forms. */
  readonly asked: string[] = [];
  /** Of every answer. */
  answered = "";
  url = "";
  #server: AdminServer | undefined;

  async start({ token = TOKEN, overview, upkeep, page }: FrontOptions = {}): Promise<void> {
    const { asked, logged, clock } = this;
    const told = (name: string) =>
      async function* ({ reference }: { readonly reference: string }) {
        asked.push(`${name} ${reference}`);
        yield { done: true, pin: reference, changed: true } as never;
      };
    const log = { ...silentLog };
    for (const level of ["info", "warn", "error"] as const) log[level] = (...line) => logged.push([level, ...line]);
    const secret = token === "" ? undefined : new Secret(token);
    let random = 0;
    this.#server = createAdminServer({
      config: { listen: { host: "127.0.0.1", port: 0 } },
      metrics: { expose: () => Promise.reject(new Error("not asked for")) },
      observer: { denied: () => {} },
      admit: () => {},
      ready: () => ({ ready: true, reasons: [] }),
      setup: {
        config: () => ({ routing: { default: undefined, hosts: new Map(), dynamic: { allow: [] } }, upstreams: [] }),
        server: () => ({ listen: { host: "127.0.0.1", port: 5000 }, publicUrl: undefined, tls: undefined }) as never,
      },
      control: {
        upkeep: fakeUpkeep({
          refresh: told("refresh"),
          pin: told("pin"),
          unpin: told("unpin"),
          async *purge({ reference, dryRun }) {
            asked.push(`${dryRun ? "count" : "purge"} ${reference}`);
            const counts = { repositories: 0, tags: 1, manifests: 1, layers: 2, blobs: 3, bytes: 4096, shared: 0 };
            yield { done: true, dryRun, ...counts, tookMs: 1 };
          },
          async *explain() {
            yield sampleExplanation(NOW);
          },
          async *explainRequest() {
            yield sampleRequest(NOW);
          },
          ...upkeep,
        }),
        tokens: secret === undefined ? [] : [secret],
      },
      page: fakePage(secret, {
        overview: fakeOverview({ ...OVERVIEW, ...overview }),
        random(bytes) {
          random += 1;
          return new Uint8Array(bytes).fill(random);
        },
        ...page,
      }),
      log,
      clock,
      newRequestId: () => "id",
    });
    const { port } = await this.#server.listen();
    this.url = `http://127.0.0.1:${port}`;
  }

  async stop(): Promise<void> {
    await this.#server?.stop(0);
    this.#server = undefined;
  }

  /** Stops it, and looks for the token in everything that was said. */
  async close(): Promise<void> {
    await this.stop();
    expect(this.answered + JSON.stringify(this.logged)).not.toContain(TOKEN);
  }

  async get(path: string, headers: Headers = {}): Promise<HttpReply> {
    return await this.#ask(path, { headers: { accept: "text/html", ...headers } });
  }

  async post(path: string, form: Headers | string, headers: Headers = {}): Promise<HttpReply> {
    return await this.#ask(path, {
      method: "POST",
      body: typeof form === "string" ? form : new URLSearchParams(form).toString(),
      headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    });
  }

  async signInAs(token: string, headers: Headers = {}): Promise<HttpReply> {
    return await this.post("/page/sign-in", { token, next: "/page/held?q=a" }, headers);
  }

  async signIn(): Promise<SignedIn> {
    const reply = await this.signInAs(TOKEN);
    expect(reply.status).toBe(303);
    const cookie = reply.headers["set-cookie"]?.[0]?.split(";")[0] ?? "";
    // Any page has the form for signing out.
    const page = pageOf(await this.get("/page/explain", { cookie }));
    return { cookie, form: find(page, "input", { name: "form" }).attributes.get("value") ?? "" };
  }

  async #ask(path: string, options: Parameters<typeof httpRequest>[1] & { headers: Headers }): Promise<HttpReply> {
    const headers = { connection: "close", ...options.headers };
    const reply = await httpRequest(this.url + path, { ...options, headers });
    this.answered += reply.body.toString() + JSON.stringify(reply.headers);
    return reply;
  }
}

export function pageOf(reply: HttpReply): Element {
  expect(reply.headers["content-type"]).toBe("text/html; charset=utf-8");
  return parseHtml(reply.body.toString());
}
