/** The status page as people see it: a real browser, in front of a whole Weir that is being pulled from. */
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect } from "vitest";
import {
  artifacts,
  BROWSER_TOOLS,
  barriers,
  LOOKS,
  overhang,
  startBrowser,
  tooSmall,
  type Visitor,
  visit,
} from "../support/browser.ts";
import { hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { bigImage, multiArchImage, smallImage } from "../support/images.ts";
import { metricOf } from "../support/metrics.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { type ScriptedServer, startScriptedServer } from "../support/scripted-server.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

/** Of a busy machine. */
const TIMEOUT_MS = 900_000;
const TOKEN = "a-token-of-the-operator-0123456789";
const SCRIPT = "<script>alert(1)</script>";

const NGINX = multiArchImage("page: nginx");
const HOSTILE = smallImage("page: script");
const MODEL = bigImage("page: model", 24 * 2 ** 20);
const PART_BYTES = 4 * 2 ** 20;
const [LAYER = MODEL.root] = MODEL.blobs.filter(({ bytes }) => bytes.length > PART_BYTES);
const TAGS = ["1.27", "latest", ...Array.from({ length: 60 }, (_, i) => `1.26.${i}`)];
const BEARER = { authorization: `Bearer ${TOKEN}` };

let stack: AsyncDisposableStack;
let hub: HubDouble;
let weir: WeirProcess;
/** Sends the model's layer a part at a time. */
let release: (parts: number) => void;
/** The pull of it. */
let model: Promise<HttpReply>;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

/** A Weir with something in every corner: held images, an upstream in trouble, a quota, and a download that goes on. */
async function start(): Promise<void> {
  hub = await startHubDouble(stack);
  hub.quota = { limit: 100, windowS: 21_600, remaining: 60 };
  hub.add("library/nginx", NGINX, TAGS);
  hub.add("a/script", HOSTILE, ["1"]);
  const models = await startModels();
  const broken = await startScriptedServer([
    {
      when: { path: /./ },
      reply: { status: 503, headers: { "content-type": "text/html", "x-error": SCRIPT }, body: `<h1>${SCRIPT}</h1>` },
    },
  ]);
  stack.defer(() => broken.close());
  weir = await startWeir(stack, {
    config: {
      upstreams: {
        "docker.io": hubUpstream(hub),
        "models.example": { endpoints: [models.url.origin], timeouts: { body: "1h" } },
        "broken.example": { endpoints: [broken.url.origin] },
      },
      shutdown: { grace: "2s" },
      telemetry: { logLevel: "error" },
    },
    env: { WEIR_ADMIN_TOKEN: TOKEN },
    secrets: [TOKEN],
  });
  await pullByHead(weir.url, "library/nginx", "1.27", NGINX);
  await pullByHead(weir.url, "library/nginx", "1.27", NGINX);
  await pullByHead(weir.url, "a/script", "1", HOSTILE);
  for (const tag of TAGS) await pull(`docker.io/library/nginx/manifests/${tag}`, { method: "HEAD" });
  for (const tag of TAGS) await pull(`docker.io/library/nginx/manifests/${tag}`);
  // Its breaker opens, and the last of them is not asked any more.
  for (let i = 0; i < 6; i += 1) {
    expect((await pull(`broken.example/acme/app/manifests/${i}`)).status).toBe(502);
  }
  expect((await pull(`docker.io/${encodeURIComponent(SCRIPT)}/manifests/1`)).status).toBe(400);
  expect((await pull("models.example/big/model/manifests/1")).status).toBe(200);
  model = pull(`models.example/big/model/blobs/${LAYER.digest}`);
  stack.defer(async () => {
    release(Number.POSITIVE_INFINITY);
    await model;
  });
  release(2);
  await until("the download", async () => (await metricOf(weir.adminUrl, "weir_fills_in_flight")) === 1);
}

/** A registry whose one layer comes only as far as it is let. */
async function startModels(): Promise<ScriptedServer> {
  let allowed = 0;
  let wake = Promise.withResolvers<void>();
  release = (parts) => {
    allowed += parts;
    wake.resolve();
    wake = Promise.withResolvers();
  };
  const body = async function* (): AsyncGenerator<Uint8Array> {
    for (let sent = 0; sent * PART_BYTES < LAYER.bytes.length; sent += 1) {
      while (sent >= allowed) await wake.promise;
      yield LAYER.bytes.subarray(sent * PART_BYTES, (sent + 1) * PART_BYTES);
    }
  };
  const { digest, mediaType, bytes } = MODEL.root;
  const manifest = {
    headers: {
      "content-type": mediaType,
      "docker-content-digest": digest,
      "content-length": String(bytes.length),
    },
    body: bytes,
  };
  const server = await startScriptedServer([
    { when: { path: "/v2/" }, reply: { body: "{}" } },
    { when: { path: /\/manifests\// }, reply: manifest },
    {
      when: { path: /\/blobs\// },
      reply: () => ({ headers: { "content-length": String(LAYER.bytes.length) }, body: body() }),
    },
  ]);
  stack.defer(() => server.close());
  return server;
}

async function pull(path: string, options: { readonly method?: string } = {}): Promise<HttpReply> {
  return await httpRequest(`${weir.url}/v2/${path}`, options);
}

async function signIn({ page }: Visitor, shot: (name: string) => Promise<void> = async () => {}): Promise<void> {
  await page.goto(weir.adminUrl);
  await shot("sign-in");
  await page.getByLabel("Token of the operator").fill(TOKEN);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
}

/** What a page shows, as it is read. */
async function shown(page: Page): Promise<string> {
  return (await page.locator("main").innerText()).replace(/\s+/g, " ");
}

const NGINX_PAGE = "/page/repository?upstream=docker.io&repository=library%2Fnginx";

/** Each page, and what has to stand on it. */
const PAGES: readonly (readonly [name: string, path: string, says: readonly string[]])[] = [
  [
    "overview",
    "/page",
    [
      "1 in trouble",
      "docker.io healthy",
      "broken.example not answering",
      "breaker",
      "Last error",
      "status 503",
      "of 100 left in 6 h",
      "models.example/big/model",
      "8.0 MiB of 24.0 MiB (33 %)",
      "1 client reads along",
      "of 50.0 GiB",
    ],
  ],
  [
    "held",
    "/page/held",
    ["docker.io/a/script", "docker.io/library/nginx", "models.example/big/model", "3 repositories"],
  ],
  ["held-search", "/page/held?q=NGIN&upstream=docker.io", ["docker.io/library/nginx", "1 repository"]],
  ["repository", NGINX_PAGE, ["linux/amd64", "linux/arm64", "fresh", "1 to 50 of 62 tags"]],
  ["repository-search", `${NGINX_PAGE}&q=1.27`, ["1.27", "1 tag"]],
  ["pulls", "/page/pulls", ["docker.io/library/nginx:1.27", "hit", "miss", "502"]],
  [
    "explain",
    "/page/explain?ref=library%2Fnginx%3A1.27",
    ["The next pull is answered from storage", "linux/amd64: 3 of 3 blobs held", "freshness.default"],
  ],
  [
    "clients",
    "/page/clients?client=podman",
    ["/etc/containers/registries.conf.d/50-weir.conf", "docker.io", "sudo sh"],
  ],
  ["purge", "/page/purge?ref=docker.io%2Fa%2Fscript", ["1 repository, 1 tag", "would go"]],
];

toolTest(
  BROWSER_TOOLS,
  "A4 every page, on a desk and on a phone, in light and in dark: its text, no barrier, nothing too wide, and no complaint of the browser",
  async () => {
    await start();
    const browser = await startBrowser(stack);
    const folder = await artifacts(stack);
    for (const look of LOOKS) {
      const visitor = await visit(browser, look);
      const { page, complaints } = visitor;
      const check = async (name: string): Promise<void> => {
        await page.screenshot({ path: join(folder, `${name}-${look.name}.png`), fullPage: true });
        expect([name, await barriers(page)]).toEqual([name, []]);
        expect([name, await overhang(page)]).toEqual([name, 0]);
        expect([name, await tooSmall(page)]).toEqual([name, []]);
        expect(await page.content()).not.toContain(TOKEN);
      };
      await signIn(visitor, check);
      for (const [name, path, says] of PAGES) {
        await page.goto(weir.adminUrl + path);
        for (const words of says) expect(await shown(page)).toContain(words);
        await check(name);
      }
      await page.goto(`${weir.adminUrl}/page/pulls`);
      await page.getByRole("link", { name: "broken.example/acme/app:0" }).click();
      await page.getByText("What was done for it").waitFor();
      expect(await shown(page)).toMatch(/asked GET .*: 503/);
      await check("request");
      await page.goto(`${weir.adminUrl}${NGINX_PAGE}&q=1.26.1`);
      await page.getByRole("button", { name: "Refresh docker.io/library/nginx:1.26.1", exact: true }).click();
      await page.getByText("1 tag asked for").waitFor();
      expect(await shown(page)).toContain("unchanged");
      await check("refreshed");
      await page.goto(`${weir.adminUrl}/page/nothing`);
      await check("not-found");
      // The way in, and the page that is not there, have the status that they should have.
      const unexpected = complaints.filter((text) => !/status of (?:401|404)/.test(text));
      expect(unexpected).toEqual([]);
      await page.context().close();
    }
    // No word of a client or an upstream became more than a word.
    expect((await httpRequest(`${weir.adminUrl}/page`, { headers: BEARER })).body.toString()).not.toContain(SCRIPT);
  },
  TIMEOUT_MS,
);

toolTest(
  BROWSER_TOOLS,
  "the overview follows what happens without being loaded again, and stops when it is not looked at",
  async () => {
    await start();
    const browser = await startBrowser(stack);
    const visitor = await visit(browser, { name: "", width: 1280, height: 900, scheme: "light" });
    const { page, complaints } = visitor;
    await signIn(visitor);
    await page.locator("#live.on").waitFor();
    const fills = page.locator("#fills");
    await fills.getByText("8.0 MiB of 24.0 MiB (33 %)").waitFor();
    await page.evaluate("window.unchanged = true");
    // The keyboard stays where it was while the part that has it is replaced.
    await fills.getByRole("link").focus();
    release(1);
    await fills.getByText("12.0 MiB of 24.0 MiB").waitFor();
    expect(await page.evaluate("document.activeElement.textContent")).toBe("models.example/big/model");
    expect((await pull("docker.io/a/script/manifests/absent-tag")).status).toBe(404);
    await page.locator("#recent").getByText("docker.io/a/script:absent-tag").waitFor();
    release(Number.POSITIVE_INFINITY);
    expect((await model).body.length).toBe(LAYER.bytes.length);
    await fills.getByText("Nothing is being downloaded.").waitFor();
    expect(await page.evaluate("window.unchanged")).toBe(true);
    // The first thing that the keyboard reaches leads past the navigation.
    await page.goto(`${weir.adminUrl}/page/held`);
    await page.keyboard.press("Tab");
    expect(await page.evaluate("document.activeElement.textContent")).toBe("Skip to the content");
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("main");
    expect(complaints.filter((text) => !text.includes("status of 401"))).toEqual([]);
    await page.goto(`${weir.adminUrl}/page`);
    await page.locator("#live.on").waitFor();
    await weir.stop();
    await page.getByText("connecting again").waitFor();
  },
  TIMEOUT_MS,
);

toolTest(
  BROWSER_TOOLS,
  "without JavaScript everything can be looked at and done: search, pages, refresh, pin, purge, signing out",
  async () => {
    await start();
    const browser = await startBrowser(stack);
    const visitor = await visit(browser, { name: "", width: 375, height: 812, scheme: "light", scripts: false });
    const { page, complaints } = visitor;
    await signIn(visitor);
    expect(await shown(page)).toContain("8.0 MiB of 24.0 MiB (33 %)");
    expect(await page.locator("#live").isVisible()).toBe(false);
    release(1);
    await until("the download to be shown", async () => {
      await page.reload();
      return (await shown(page)).includes("12.0 MiB of 24.0 MiB");
    });
    await page.getByRole("link", { name: "Held", exact: true }).click();
    await page.getByLabel("Name contains").fill("nginx");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByRole("link", { name: "docker.io/library/nginx" }).click();
    await page.getByRole("link", { name: "Next" }).click();
    expect(await shown(page)).toContain("51 to 62 of 62 tags");
    const tag = "docker.io/library/nginx:latest";
    const named = { exact: true } as const;
    await page.getByRole("button", { name: `Refresh ${tag}`, ...named }).click();
    expect(await shown(page)).toMatch(/unchanged .*latest 1 tag asked for/);
    await page.getByRole("link", { name: "Back to the repository" }).click();
    await page.getByLabel("Tag contains").fill("latest");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByRole("button", { name: `Pin ${tag}` }).click();
    expect(await shown(page)).toContain(`${tag}: done.`);
    await page.goto(`${weir.adminUrl}${NGINX_PAGE}&q=latest`);
    expect(await shown(page)).toContain("pinned");
    await page.getByRole("button", { name: `Unpin ${tag}` }).click();
    expect(await shown(page)).toContain(`${tag}: done.`);
    await page.goto(`${weir.adminUrl}${NGINX_PAGE}&q=latest`);
    await page.getByRole("link", { name: `Purge ${tag}`, ...named }).click();
    expect(await shown(page)).toContain("1 tag would go");
    await page.getByRole("button", { name: "Purge it" }).click();
    expect(await shown(page)).toContain("1 tag went");
    await until("the tag to be gone", async () => {
      await page.goto(`${weir.adminUrl}${NGINX_PAGE}&q=latest`);
      return (await shown(page)).includes("No held tag fits.");
    });
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Token of the operator").waitFor();
    await page.goto(`${weir.adminUrl}/page/held`);
    await page.getByLabel("Token of the operator").waitFor();
    expect(complaints.filter((text) => !text.includes("status of 401"))).toEqual([]);
  },
  TIMEOUT_MS,
);
