/**
 * Tests that need a program or an ability of the machine. Where it is missing they are skipped with a printed reason;
 * with `WEIR_TEST_REQUIRE_ALL=1` (as .ci/run has it) they fail instead, so that nothing is passed over unseen.
 */
import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { type TestContext, test } from "vitest";

/** Debian keeps ip, dockerd and nginx where an ordinary user's PATH does not look. */
const SYSTEM_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/** The path of a program, looked for in PATH and in the system folders; undefined when it is not installed. */
export function tool(name: string): string | undefined {
  for (const folder of [...(process.env.PATH ?? "").split(delimiter), ...SYSTEM_FOLDERS]) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Like {@link tool}, for code that runs only where the program has been asked for already. */
export function requireTool(name: string): string {
  const path = tool(name);
  if (path === undefined) throw new Error(`${name} is not installed`);
  return path;
}

/** What is wanted of the machine rather than installed, each with how to find out and what to say. */
const ABILITIES: Readonly<Record<string, { able(): boolean; missing: string }>> = {
  root: { able: () => process.getuid?.() === 0, missing: "needs root" },
  netns: {
    able: () => tool("ip") !== undefined && succeeds("unshare", ["--net", "--mount", "true"]),
    missing: "network namespaces are not permitted",
  },
  mount: {
    able: () => succeeds("unshare", ["--mount", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]),
    missing: "mounting is not permitted",
  },
};

/**
 * Why the machine cannot run something that needs all of `needs` (names of programs, or the abilities `root`, `netns`
 * and `mount`); undefined when it can.
 */
export function missing(needs: readonly string[]): string | undefined {
  for (const need of needs) {
    const ability = ABILITIES[need];
    if (ability === undefined) {
      if (tool(need) === undefined) return `${need} is not installed`;
    } else if (!ability.able()) return ability.missing;
  }
  return undefined;
}

/** A test that needs programs or abilities of the machine; see {@link missing} for their names. */
export function toolTest(
  tools: readonly string[],
  name: string,
  fn: (context: TestContext) => Promise<void> | void,
  timeoutMs?: number,
): void {
  test(
    name,
    async (context) => {
      const reason = missing(tools);
      if (reason !== undefined) {
        if (process.env.WEIR_TEST_REQUIRE_ALL === "1") throw new Error(`${name}: ${reason}`);
        console.log(`skipped: ${name}: ${reason}`);
        context.skip(reason);
      }
      await fn(context);
    },
    timeoutMs,
  );
}

function succeeds(name: string, args: readonly string[]): boolean {
  const path = tool(name);
  return path !== undefined && spawnSync(path, args, { stdio: "ignore" }).status === 0;
}
