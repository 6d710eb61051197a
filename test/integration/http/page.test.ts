/** The status page over HTTP: who gets in, which forms do something, and what stands on every answer. */
import http from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UpkeepError } from "../../../src/proxy/upkeep/upkeep.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { fakeOverview, fakePage } from "../../support/fake-page.ts";
import { find, findAll, textOf } from "../../support/html-tree.ts";
import { httpRequest } from "../../support/network.ts";
import { SCRIPT } from "../../support/page-samples.ts";
import { type Headers, PageFront, pageOf, type SignedIn, TOKEN } from "./page-front.ts";

let front: PageFront;

beforeEach(() => {
  front = new PageFront();
});

afterEach(() => front.close());

const PAGES = [
  "/page",
  "/page/held?q=a&upstream=docker.io&page=2",
  "/page/repository?upstream=docker.io&repository=library%2Fnginx",
  "/page/pulls",
  "/page/explain",
  "/page/explain?ref=docker.io%2Flibrary%2Fnginx%3A1",
  "/page/explain?request=b2b0c6de-0002",
  "/page/clients?client=podman&only=true",
  "/page/purge?ref=docker.io%2Flibrary%2Fnginx%3A1",
];

describe("without admin.token", () => {
  test("every page says how to set it, and nothing else; nobody can sign in", async () => {
    const untouched = fakeOverview();
    await front.start({ token: "", overview: untouched });
    for (const path of [...PAGES, "/page/nothing", "/page/events"]) {
      const reply = await front.get(path, { authorization: `Bearer ${TOKEN}` });
      expect([path, reply.status]).toEqual([path, 403]);
      expect(textOf(pageOf(reply))).toContain("admin.token");
      expect(reply.body.toString()).not.toMatch(/nginx|<form|<nav/);
    }
    for (const path of ["/page/sign-in", "/page/sign-out", "/page/actions/purge"]) {
      expect((await front.post(path, { token: TOKEN, ref: "**" })).status).toBe(403);
    }
    expect(front.asked).toEqual([]);
  });
});

describe("getting in", () => {
  test("the port's own address leads browsers to the page, and tells programs what there is", async () => {
    await front.start();
    const browser = await front.get("/");
    expect([browser.status, browser.headers.location]).toEqual([302, "/page"]);
    const program = await front.get("/", { accept: "*/*" });
    expect([program.status, program.headers["content-type"]]).toEqual([404, "application/json"]);
  });

  test("who has not signed in gets the way in on every page, and what they wanted after it", async () => {
    const untouched = fakeOverview();
    await front.start({ overview: untouched });
    for (const path of [...PAGES, "/page/nothing"]) {
      const reply = await front.get(path);
      expect([path, reply.status, reply.headers["www-authenticate"]]).toEqual([path, 401, 'Bearer realm="weir"']);
      const form = find(pageOf(reply), "form", { action: "/page/sign-in" });
      expect(find(form, "input", { name: "next" }).attributes.get("value")).toBe(path);
      expect(findAll(pageOf(reply), "nav")).toEqual([]);
    }
    expect((await front.get("/page/events")).status).toBe(401);
    const reply = await front.signInAs(TOKEN);
    expect([reply.status, reply.headers.location]).toEqual([303, "/page/held?q=a"]);
  });

  test.each(["https://evil.example/", "//evil.example/page", "/pages", "/", "\\/page", ""])(
    "after it nobody is led elsewhere: %j",
    async (next) => {
      await front.start();
      const reply = await front.post("/page/sign-in", { token: TOKEN, next });
      expect([reply.status, reply.headers.location]).toEqual([303, "/page"]);
    },
  );

  test("the cookie is for the page alone, out of reach of scripts and other sites, and holds no token", async () => {
    await front.start();
    const [cookie = ""] = (await front.signInAs(TOKEN)).headers["set-cookie"] ?? [];
    expect(cookie.replace(/=[^;]+/, "=…")).toBe("weir_session=…; Path=/page; Max-Age=43200; HttpOnly; SameSite=Strict");
    expect((await front.get("/page", { cookie: `other=1; ${cookie.split(";")[0]}; weir_session=forged` })).status).toBe(
      200,
    );
    expect((await front.get("/page", { cookie: "weir_session=forged" })).status).toBe(401);
    front.clock.advance(12 * 3600 * 1000);
    expect((await front.get("/page", { cookie: cookie.split(";")[0] ?? "" })).status).toBe(401);
  });

  test("behind a trusted proxy that speaks TLS the cookie is Secure; nobody else's word counts", async () => {
    const { clients } = fakePage();
    await front.start({ page: { clients: { ...clients, isProxy: (peer) => peer === "127.0.0.1" } } });
    const cookieOf = async (headers: Headers): Promise<string> =>
      (await front.signInAs(TOKEN, headers)).headers["set-cookie"]?.[0] ?? "";
    expect(await cookieOf({ "x-forwarded-proto": "https" })).toContain("; Secure");
    expect(await cookieOf({ "x-forwarded-proto": "http" })).not.toContain("Secure");
    await front.stop();
    await front.start();
    expect(await cookieOf({ "x-forwarded-proto": "https" })).not.toContain("Secure");
  });

  test("A4 wrong tokens are refused, logged without themselves, and slowed after ten; also those in headers", async () => {
    await front.start();
    for (let i = 0; i < 5; i += 1) {
      const reply = await front.signInAs("wrong-guess-0123456789");
      expect([reply.status, reply.headers["set-cookie"]]).toEqual([401, undefined]);
      expect(textOf(find(pageOf(reply), "p", { role: "alert" }))).toContain("not the token of admin.token");
      expect((await front.get("/page", { authorization: "Bearer wrong-guess-0123456789" })).status).toBe(401);
    }
    const slowed = await front.signInAs(TOKEN);
    expect([slowed.status, slowed.headers["retry-after"]]).toEqual([429, "60"]);
    expect((await front.get("/page", { authorization: `Bearer ${TOKEN}` })).status).toBe(429);
    expect((await front.get("/explain?ref=a", { authorization: `Bearer ${TOKEN}` })).status).toBe(429);
    expect(front.logged.filter(([level]) => level === "warn")).toHaveLength(10);
    expect(JSON.stringify(front.logged)).not.toContain("wrong-guess");
    expect(front.answered).not.toContain("wrong-guess");
    front.clock.advance(60_000);
    expect((await front.signInAs(TOKEN)).status).toBe(303);
  });

  test("the token itself opens every page, without a session", async () => {
    await front.start();
    const reply = await front.get("/page", { authorization: `Bearer ${TOKEN}` });
    expect([reply.status, reply.headers["set-cookie"]]).toEqual([200, undefined]);
  });

  test("after signing out a copy of the cookie is worth nothing", async () => {
    await front.start();
    const { cookie, form } = await front.signIn();
    const reply = await front.post("/page/sign-out", { form }, { cookie });
    expect([reply.status, reply.headers.location]).toEqual([303, "/page"]);
    expect(reply.headers["set-cookie"]?.[0]).toContain("weir_session=; Path=/page; Max-Age=0;");
    expect((await front.get("/page", { cookie })).status).toBe(401);
  });
});

describe("forms", () => {
  const refused: readonly (readonly [name: string, form: (own: SignedIn) => Headers, headers: Headers])[] = [
    ["without its proof", () => ({}), {}],
    ["with a wrong proof", () => ({ form: "x".repeat(43) }), {}],
    ["from another site", ({ form }) => ({ form }), { "sec-fetch-site": "cross-site" }],
    ["from another origin of the site", ({ form }) => ({ form }), { "sec-fetch-site": "same-site" }],
    ["from another origin, by an older browser", ({ form }) => ({ form }), { origin: "http://evil.example" }],
    ["from another port", ({ form }) => ({ form }), { origin: "http://127.0.0.1:1" }],
    ["from a sandbox", ({ form }) => ({ form }), { origin: "null" }],
  ];

  test.each(refused)("%s do nothing", async (_name, form, headers) => {
    await front.start();
    const own = await front.signIn();
    for (const action of ["refresh", "pin", "unpin", "purge"]) {
      const fields = { ref: "docker.io/library/nginx:1", ...form(own) };
      const reply = await front.post(`/page/actions/${action}`, fields, { cookie: own.cookie, ...headers });
      expect([action, reply.status]).toEqual([action, 403]);
    }
    expect((await front.post("/page/sign-out", form(own), { cookie: own.cookie, ...headers })).status).toBe(403);
    expect(front.asked).toEqual([]);
    expect((await front.get("/page", { cookie: own.cookie })).status).toBe(200);
  });

  test("with another session's proof, or after the session, do nothing", async () => {
    await front.start();
    const [own, another] = [await front.signIn(), await front.signIn()];
    const ref = "docker.io/library/nginx:1";
    expect((await front.post("/page/actions/pin", { ref, form: another.form }, { cookie: own.cookie })).status).toBe(
      403,
    );
    front.clock.advance(12 * 3600 * 1000);
    const reply = await front.post("/page/actions/pin", { ref, form: own.form }, { cookie: own.cookie });
    expect([reply.status, textOf(pageOf(reply)).includes("Your session is over")]).toEqual([401, true]);
    expect(front.asked).toEqual([]);
  });

  test("signing in from another site is refused as well", async () => {
    await front.start();
    expect((await front.signInAs(TOKEN, { "sec-fetch-site": "cross-site" })).status).toBe(403);
    expect((await front.signInAs(TOKEN, { origin: "https://evil.example" })).status).toBe(403);
  });

  test.each([
    ["a browser", { "sec-fetch-site": "same-origin", origin: "http://elsewhere" }],
    ["an older browser", { origin: "own" }],
    ["a program", {}],
  ])("of %s do what they say", async (_name, { origin, ...headers }: Headers) => {
    await front.start();
    const { cookie, form } = await front.signIn();
    const sent = {
      cookie,
      ...headers,
      ...(origin === undefined ? {} : { origin: origin === "own" ? front.url : origin }),
    };
    const reply = await front.post("/page/actions/pin", { ref: "docker.io/library/nginx:1", form }, sent);
    expect([reply.status, front.asked]).toEqual([200, ["pin docker.io/library/nginx:1"]]);
    expect(textOf(find(pageOf(reply), "div", { role: "status" }))).toBe("docker.io/library/nginx:1: done.");
  });

  test("whoever sends the token itself needs no proof", async () => {
    await front.start();
    const reply = await front.post("/page/actions/unpin", { ref: "a" }, { authorization: `Bearer ${TOKEN}` });
    expect([reply.status, front.asked]).toEqual([200, ["unpin a"]]);
  });

  test.each([
    ["another type", { "content-type": "text/plain" }, "form=x", 415],
    ["a large body", {}, `form=${"x".repeat(20_000)}`, 413],
    ["an unknown action", {}, undefined, 404],
  ])("%s is refused", async (_name, headers: Headers, body, status) => {
    await front.start();
    const { cookie, form } = await front.signIn();
    const reply = await httpRequest(`${front.url}/page/actions/${status === 404 ? "constructor" : "pin"}`, {
      method: "POST",
      body: body ?? new URLSearchParams({ form, ref: "a" }).toString(),
      headers: { "content-type": "application/x-www-form-urlencoded", cookie, connection: "close", ...headers },
    });
    expect([reply.status, front.asked]).toEqual([status, []]);
  });

  test("a purge is counted when it is asked about, and done when it is confirmed", async () => {
    await front.start();
    const { cookie, form } = await front.signIn();
    const question = pageOf(await front.get("/page/purge?ref=docker.io%2Fa%2Fb%3A1", { cookie }));
    expect(textOf(question)).toContain(
      "1 tag, 1 manifest, 2 links to blobs would go, and with them 3 blobs of 4.0 KiB.",
    );
    expect(find(question, "input", { name: "ref" }).attributes.get("value")).toBe("docker.io/a/b:1");
    expect(front.asked).toEqual(["count docker.io/a/b:1"]);
    const done = await front.post("/page/actions/purge", { ref: "docker.io/a/b:1", form }, { cookie });
    expect(textOf(pageOf(done))).toContain("went, and with them 3 blobs");
    expect(front.asked).toEqual(["count docker.io/a/b:1", "purge docker.io/a/b:1"]);
  });

  test("a question that makes no sense is refused; what breaks on the way is told where it stops", async () => {
    await front.start({
      upkeep: {
        // biome-ignore lint/correctness/useYield: it never comes to that
        async *refresh() {
          throw new UpkeepError(`no reference: ${SCRIPT}`);
        },
        async *purge() {
          yield { event: "purged", kind: "tag", what: `docker.io/a:${SCRIPT}` };
          throw new Error("a path of the inside");
        },
      },
    });
    const { cookie, form } = await front.signIn();
    const refused = await front.post("/page/actions/refresh", { ref: SCRIPT, form }, { cookie });
    expect([refused.status, textOf(pageOf(refused)).includes(`no reference: ${SCRIPT}`)]).toEqual([400, true]);
    const broken = pageOf(await front.post("/page/actions/purge", { ref: SCRIPT, form }, { cookie }));
    expect(textOf(find(broken, "ol", { class: "events" }))).toBe(`tag docker.io/a:${SCRIPT}`);
    expect(textOf(find(broken, "div", { role: "status" }))).toContain("its log says why");
    expect(JSON.stringify(front.logged)).toContain("a request of the status page failed");
    expect(front.answered).not.toContain("of the inside");
  });

  test("the work of who leaves is ended", async () => {
    const ended = Promise.withResolvers<void>();
    await front.start({
      upkeep: {
        async *refresh({ signal }) {
          yield {
            event: "tag",
            tag: "a",
            outcome: "same",
            before: "sha256:0",
            after: "sha256:0",
            detail: undefined,
          } as never;
          await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
          ended.resolve();
        },
      },
    });
    const { cookie, form } = await front.signIn();
    const request = http.request(`${front.url}/page/actions/refresh`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded", cookie },
    });
    request.on("error", () => {});
    request.end(new URLSearchParams({ form, ref: "a" }).toString());
    request.once("response", (response) => response.once("data", () => request.destroy()));
    await ended.promise;
  });
});

describe("every page", () => {
  test("has a policy without inline script and style, keeps to it, and is kept by nobody", async () => {
    await front.start();
    const { cookie } = await front.signIn();
    for (const path of [...PAGES, "/page/nothing"]) {
      const reply = await front.get(path, { cookie });
      expect(reply.headers).toMatchObject({
        "content-security-policy":
          "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        "x-content-type-options": "nosniff",
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "same-origin",
        "cache-control": "no-store",
      });
      const page = pageOf(reply);
      expect(findAll(page, "style")).toEqual([]);
      for (const script of findAll(page, "script"))
        expect([script.children, script.attributes.has("src")]).toEqual([[], true]);
      for (const element of [...findAll(page, "script"), ...findAll(page, "link"), ...findAll(page, "img")]) {
        const at = element.attributes.get("src") ?? element.attributes.get("href");
        expect(at).toMatch(/^\/page\/assets\/[0-9a-f]{16}\//);
      }
      expect(findAll(page, "h1"), path).toHaveLength(1);
      expect(findAll(page, "main")).toHaveLength(1);
    }
  });

  test("is answered for HEAD, has assets that may be kept for good, and hostile names are text", async () => {
    await front.start();
    const { cookie } = await front.signIn();
    const head = await httpRequest(`${front.url}/page/held`, {
      method: "HEAD",
      headers: { cookie, connection: "close" },
    });
    expect([head.status, head.body.length]).toEqual([200, 0]);
    const page = pageOf(await front.get("/page", { cookie }));
    for (const [element, type] of [
      [find(page, "script"), "text/javascript; charset=utf-8"],
      [find(page, "link", { rel: "stylesheet" }), "text/css; charset=utf-8"],
      [find(page, "link", { rel: "icon" }), "image/svg+xml"],
    ] as const) {
      const reply = await front.get(element.attributes.get("src") ?? element.attributes.get("href") ?? "");
      expect([reply.status, reply.headers["content-type"]]).toEqual([200, type]);
      expect(reply.headers["cache-control"]).toBe("public, max-age=31536000, immutable");
    }
    expect(textOf(page)).toContain(SCRIPT);
    const shown = textOf(pageOf(await front.get(`/page/held?q=${encodeURIComponent(SCRIPT)}`, { cookie })));
    expect(shown).toContain("docker.io/a/script");
  });

  test("trouble is told on a page: what is not there, what cannot be reached, and nothing of the inside", async () => {
    await front.start({
      overview: {
        repository: async () => undefined,
        repositories: () => Promise.reject(new StorageError("unavailable", "the bucket cannot be reached")),
        recent: () => Promise.reject(new Error("a path of the inside")),
      },
      upkeep: {
        // biome-ignore lint/correctness/useYield: it never comes to that
        async *explain({ reference }) {
          throw new UpkeepError(`${reference} is no reference`);
        },
        async *explainRequest() {
          yield { done: true, requests: [], words: ["no such request is remembered"] };
        },
      },
    });
    const { cookie } = await front.signIn();
    const told = async (path: string): Promise<readonly [number, string]> => {
      const reply = await front.get(path, { cookie });
      return [reply.status, textOf(find(pageOf(reply), "main"))];
    };
    expect(await told("/page/nothing")).toEqual([404, "Not found There is no such page. Overview"]);
    const [absent, why] = await told(`/page/repository?upstream=docker.io&repository=${encodeURIComponent(SCRIPT)}`);
    expect([absent, why.includes(`Nothing of docker.io/${SCRIPT} is held.`)]).toEqual([404, true]);
    expect(await told("/page/held")).toEqual([503, "It did not work the bucket cannot be reached Overview"]);
    const [status, text] = await told("/page/explain?ref=x%20y");
    expect([status, text.includes("X y is no reference.")]).toEqual([400, true]);
    const [unknown, words] = await told("/page/explain?request=x");
    expect([unknown, words.includes("no such request is remembered")]).toEqual([404, true]);
    expect(await told("/page")).toEqual([
      500,
      "It did not work Weir has failed to answer this request; its log says why. Overview",
    ]);
    expect(front.answered).not.toContain("of the inside");
  });
});
