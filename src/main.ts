#!/usr/bin/env -S node --max-semi-space-size=16
import { nodeVersionProblem } from "./base/node-version.ts";

const problem = nodeVersionProblem(process.versions.node);
if (problem === undefined) {
  // Only now: on an old Node the rest would fail while it is being read, with words that help nobody.
  const { runCli } = await import("./cli.ts");
  process.exit(await runCli(process.argv.slice(2), process));
} else {
  process.stderr.write(`weir: ${problem}\n`);
  process.exit(1);
}
