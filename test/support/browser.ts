/** A real Chromium, which reaches loopback addresses only, and what is wanted of every page that it shows. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import axe from "axe-core";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { tempFolder } from "./processes.ts";
import { requireTool } from "./tools.ts";

export const BROWSER_TOOLS = ["chromium"];

/** A busy machine takes its time over a browser. */
const PATIENCE_MS = 120_000;

/** How a page is looked at. */
export interface Look {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly scheme: "light" | "dark";
  readonly scripts?: boolean;
}

const DESKTOP = { width: 1280, height: 900 };
/** A small phone of today. */
const PHONE = { width: 375, height: 812 };

export const LOOKS: readonly Look[] = [
  { name: "desktop-light", ...DESKTOP, scheme: "light" },
  { name: "desktop-dark", ...DESKTOP, scheme: "dark" },
  { name: "phone-light", ...PHONE, scheme: "light" },
  { name: "phone-dark", ...PHONE, scheme: "dark" },
];

export interface Visitor {
  readonly page: Page;
  /** What the browser complained of, refusals by the content security policy included. */
  readonly complaints: readonly string[];
}

/** It is closed with `stack`. */
export async function startBrowser(stack: AsyncDisposableStack): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: requireTool("chromium"),
    args: [
      // Its sandbox wants a user that is not root.
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ],
  });
  stack.defer(() => browser.close());
  return browser;
}

export async function visit(browser: Browser, look: Look): Promise<Visitor> {
  const context: BrowserContext = await browser.newContext({
    viewport: { width: look.width, height: look.height },
    hasTouch: look.width < 600,
    colorScheme: look.scheme,
    javaScriptEnabled: look.scripts ?? true,
  });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { page, complaints };
}

/** Where screenshots go: what is named by `WEIR_TEST_ARTIFACTS`, or a folder that goes with `stack`. */
export async function artifacts(stack: AsyncDisposableStack): Promise<string> {
  const wanted = process.env.WEIR_TEST_ARTIFACTS;
  if (wanted === undefined) return await tempFolder(stack);
  const folder = join(wanted, "status-page");
  await mkdir(folder, { recursive: true });
  return folder;
}

/** What axe finds that is serious or critical, a line each. */
export async function barriers(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe.source);
  const found = (await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")) as axe.AxeResults;
  return found.violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, help, nodes }) => nodes.map(({ html }) => `${id} (${help}): ${html.slice(0, 200)}`));
}

/** By how many pixels the page is wider than the window. */
export async function overhang(page: Page): Promise<number> {
  return (await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")) as number;
}

/** What a finger would miss: things to tap that are less than 24 by 24 pixels (WCAG 2.2, 2.5.8), links in running text aside. */
export async function tooSmall(page: Page): Promise<readonly string[]> {
  return (await page.evaluate(`[...document.querySelectorAll("button, .button, nav a, select, input:not([type=hidden])")]
    .filter((element) => element.checkVisibility())
    .map((element) => [element.textContent.trim() || element.name, element.getBoundingClientRect()])
    .filter(([, { width, height }]) => width < 24 || height < 36)
    .map(([name, { width, height }]) => name + " " + width + "x" + height)`)) as readonly string[];
}
