/**
 * Looks for known weaknesses of high or critical severity in what is shipped: `npm run audit`. Fails for a finding. A registry that
 * cannot say, because it is out of reach or has no audit, is told of and is no failure: what it says does not depend on the change
 * that is being tested.
 */
import { spawnSync } from "node:child_process";

/** Of npm's own, milliseconds. */
const PATIENCE_MS = 30_000;

interface Report {
  readonly message?: string;
  readonly vulnerabilities?: Readonly<Record<string, { readonly severity: string; readonly range: string }>>;
}

const { stdout, error } = spawnSync(
  "npm",
  ["audit", "--omit=dev", "--json", "--fetch-retries=0", `--fetch-timeout=${PATIENCE_MS}`],
  { encoding: "utf8" },
);
const { message, vulnerabilities } = read(stdout);
if (vulnerabilities === undefined) {
  console.log(`the dependencies were not audited: ${error?.message ?? message ?? "npm gave no report"}`);
} else {
  const grave = Object.entries(vulnerabilities).filter(([, { severity }]) => /^(?:high|critical)$/.test(severity));
  for (const [name, { severity, range }] of grave) console.log(`${name} ${range}: ${severity}`);
  console.log(`the dependencies were audited: ${grave.length} of high or critical severity`);
  process.exitCode = grave.length > 0 ? 1 : 0;
}

function read(text: string): Report {
  try {
    return JSON.parse(text) as Report;
  } catch {
    return {};
  }
}
