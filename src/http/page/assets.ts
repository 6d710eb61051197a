import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/** A file that the page's markup refers to. Its path changes with what it holds, so that browsers may keep it for good. */
export interface Asset {
  readonly path: string;
  readonly type: string;
  readonly content: Buffer;
}

export interface Assets {
  readonly style: Asset;
  readonly script: Asset;
  readonly icon: Asset;
}

/** Reads them from beside this file; the build puts them beside its compiled one. */
export function readAssets(): Assets {
  return {
    style: readAsset("style.css", "text/css; charset=utf-8"),
    script: readAsset("live.js", "text/javascript; charset=utf-8"),
    icon: readAsset("icon.svg", "image/svg+xml"),
  };
}

function readAsset(name: string, type: string): Asset {
  const content = readFileSync(new URL(`./assets/${name}`, import.meta.url));
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 16);
  return { path: `/page/assets/${hash}/${name}`, type, content };
}
