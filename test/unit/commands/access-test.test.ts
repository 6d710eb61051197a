import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type AccessTestOptions, accessTest } from "../../../src/commands/access-test.ts";
import { tempFolder } from "../../support/processes.ts";

const CONFIG = `
upstreams:
  docker.io: {}
  quay.io: { deny: ["acme/banned"], frozen: true }
access:
  deny: [203.0.113.0/24]
  rules:
    - { effect: deny, accounts: [mallory] }
    - { effect: allow, accounts: [alice], what: ["docker.io/\${account}/**", "quay.io/acme/**"] }
    - { effect: allow, groups: [dev], what: ["docker.io/nginx:1.*"], private: false }
    - { effect: allow, from: [10.0.0.0/8], actions: [pull] }
`;

let stack: AsyncDisposableStack;
let folder: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await tempFolder(stack);
  await writeFile(join(folder, "weir.yaml"), CONFIG);
});

afterEach(() => stack.disposeAsync());

async function run(action: string, reference: string, options: AccessTestOptions = {}) {
  const written = { stdout: "", stderr: "" };
  const sink = (to: "stdout" | "stderr") => ({
    write(text: string) {
      written[to] += text;
    },
  });
  const terminal = { env: {}, cwd: () => folder, stdout: sink("stdout"), stderr: sink("stderr") };
  const code = await accessTest(action, reference, { config: "weir.yaml", ...options }, terminal);
  return { code, ...written };
}

describe("what it says", () => {
  test("the decision first, then every part with the key that decides", async () => {
    expect(
      await run("pull", "quay.io/acme/app:1", { as: "alice", groups: "dev,ops", from: "::ffff:192.0.2.7" }),
    ).toEqual({
      code: 0,
      stderr: "",
      stdout: `allowed: pull quay.io/acme/app:1
  who         alice of dev, ops from 192.0.2.7
  address     let in
  rules       allowed by access.rules[1]
  content     served
  upstream    not asked, so that only what is held is served: upstreams.quay.io.frozen
  if private  served, too: access.rules[1].private
`,
    });
    const { code, stdout } = await run("pull", "index.docker.io/nginx:1.27", { as: "bob", groups: "dev" });
    expect(code).toBe(0);
    expect(stdout).toBe(`allowed: pull docker.io/library/nginx:1.27
  who         bob of dev
  rules       allowed by access.rules[2]
  content     served
  upstream    asked for what is not held
  if private  refused: access.rules[2].private
`);
  });

  test("each reason for a refusal", async () => {
    const cases: [string, string, AccessTestOptions, string][] = [
      [
        "pull",
        "docker.io/alice/app:1",
        { as: "mallory" },
        "access.rules[0] denies mallory pull of docker.io/alice/app:1",
      ],
      ["pull", "docker.io/alice/app:1", { as: "bob" }, "no rule allows bob pull of docker.io/alice/app:1"],
      ["pull", "docker.io/bob/app:1", { as: "*" }, "no rule allows * pull of docker.io/bob/app:1"],
      ["pull", "quay.io/acme/banned:1", { as: "alice" }, "not served: upstreams.quay.io.deny[0]"],
      ["pull", "docker.io/nginx", { from: "203.0.113.9" }, "access.deny[0] has it"],
      ["pull", "gcr.io/a/b:1", { from: "10.1.2.3" }, "no upstream is called gcr.io: 404"],
      ["fetch", "docker.io/nginx:1", { from: "10.1.2.3" }, "no rule allows anonymous callers fetch of"],
      ["fetch", "quay.io/acme/app:1", { as: "alice" }, "not asked, so that only what is held is served"],
      ["push", "docker.io/alice/app:1", { as: "alice" }, "not offered: Weir is a cache, and answers 405"],
    ];
    for (const [action, reference, options, why] of cases) {
      const { code, stdout } = await run(action, reference, options);
      expect([reference, code]).toEqual([reference, 1]);
      expect(stdout).toMatch(/^denied: /);
      expect(stdout).toContain(why);
    }
  });

  test("JSON holds the same", async () => {
    const { code, stdout } = await run("pull", "quay.io/acme/app", { as: "alice", json: true });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      allowed: true,
      action: "pull",
      reference: "quay.io/acme/app",
      who: "alice",
      rules: { allowed: true, key: "access.rules[1]", message: "allowed by access.rules[1]" },
      content: { allowed: true, message: "served" },
      upstream: {
        allowed: false,
        key: "upstreams.quay.io.frozen",
        message: "not asked, so that only what is held is served: upstreams.quay.io.frozen",
      },
      ifPrivate: {
        allowed: true,
        key: "access.rules[1].private",
        message: "served, too: access.rules[1].private",
      },
    });
  });

  test("without rules everybody is allowed, and accounts read what is private", async () => {
    await writeFile(join(folder, "weir.yaml"), "upstreams: { docker.io: {} }");
    const nobody = await run("pull", "nginx:1", { anonymous: true });
    expect([nobody.code, nobody.stdout]).toEqual([0, expect.stringContaining("refused: access.privateToAnonymous")]);
    const somebody = await run("fetch", "nginx:1", { as: "alice" });
    expect([somebody.code, somebody.stdout]).toEqual([0, expect.stringContaining("if private  served, too")]);
  });
});

test.each<[string, string, AccessTestOptions, string]>([
  ["read", "nginx:1", {}, "expected one of pull, fetch, refresh, push"],
  ["pull", "nginx:1", { as: "a", anonymous: true }, "--as and --anonymous exclude each other"],
  ["pull", "nginx:1", { groups: "dev" }, "--groups are an account's"],
  ["pull", "nginx:1", { from: "here" }, "--from: expected an address"],
  ["pull", "docker.io/**", {}, "a glob is many things"],
  ["pull", "docker.io/UPPER:1", {}, "is not a repository name"],
  ["pull", "nginx:1", { config: "absent.yaml" }, "there is no such file"],
])("%s %s %j is a wrong command line: 2", async (action, reference, options, why) => {
  const { code, stdout, stderr } = await run(action, reference, options);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(why);
});
