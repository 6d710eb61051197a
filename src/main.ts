#!/usr/bin/env -S node --max-semi-space-size=16
import { join } from "node:path";
import { nodeVersionProblem } from "./base/node-version.ts";

const problem = nodeVersionProblem(process.versions.node);
if (problem === undefined) {
  // Only now: on an old Node the rest would fail while it is being read, with words that help nobody.
  if (import.meta.filename.endsWith(".js")) {
    const { enableCompileCache } = await import("node:module");
    // What Node makes of a build is kept beside it, a fifth of the next start's work. Not in a folder for everybody's temporary
    // files: who writes there says what is run. Where nothing can be written, there is no cache, and that is all.
    enableCompileCache(join(import.meta.dirname, "compiled"));
  }
  const { runCli } = await import("./cli.ts");
  process.exit(await runCli(process.argv.slice(2), process));
} else {
  process.stderr.write(`weir: ${problem}\n`);
  process.exit(1);
}
