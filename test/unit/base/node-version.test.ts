import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { MINIMUM_NODE, nodeVersionProblem } from "../../../src/base/node-version.ts";
import { packageVersion } from "../../../src/base/package-version.ts";

test.each([["22.19.0"], ["22.19.1"], ["22.20.0"], ["24.0.0"], ["100.1.1"], ["23.0.0-nightly"]])(
  "Node %s will do",
  (version) => {
    expect(nodeVersionProblem(version)).toBeUndefined();
  },
);

test.each([["22.18.9"], ["20.19.0"], ["8.99.99"], ["2.20.0"]])(
  "Node %s is too old, and is told in a sentence",
  (version) => {
    expect(nodeVersionProblem(version)).toContain(`needs Node ${MINIMUM_NODE} or later, and this is ${version}`);
  },
);

test("package.json says the same", async () => {
  const manifest = JSON.parse(await readFile(new URL("../../../package.json", import.meta.url), "utf8"));
  expect(`${manifest.engines.node}.0`).toBe(`>=${MINIMUM_NODE}`);
  expect(packageVersion()).toBe(manifest.version);
});
