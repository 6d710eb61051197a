import { readdirSync } from "node:fs";
import { join } from "node:path";
import { Script } from "node:vm";
import { expect, test } from "vitest";
import { readAssets } from "../../../../src/http/page/assets.ts";

const PROJECT = join(import.meta.dirname, "../../../..");

test("a path names its content, and the three are all there are", () => {
  const assets = Object.values(readAssets());
  for (const { path } of assets) expect(path).toMatch(/^\/page\/assets\/[0-9a-f]{16}\/[a-z]+\.(?:css|js|svg)$/);
  expect(new Set(assets.map(({ path }) => path.split("/")[3])).size).toBe(3);
  const names = assets.map(({ path }) => path.split("/").at(-1)).sort();
  expect(readdirSync(join(PROJECT, "src/http/page/assets")).sort()).toEqual(names);
});

test("the script is one, and the style sheet refers to nothing outside itself", () => {
  const { script, style } = readAssets();
  expect(() => new Script(script.content.toString())).not.toThrow();
  expect(style.content.toString()).not.toMatch(/url\(|@import/);
});
