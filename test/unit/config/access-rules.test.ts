// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import type { Config } from "../../../src/config/types.ts";

const CWD = "/srv/weir";

function access(
  section: Readonly<Record<string, unknown>>,
  more: Readonly<Record<string, unknown>> = {},
  env = {},
): Config {
  const result = parseConfig({ ...more, access: section }, env, CWD);
  if (!result.ok) {
    throw new Error(JSON.stringify(result.problems));
  }
  return result.config;
}

function problems(section: Readonly<Record<string, unknown>>, more: Readonly<Record<string, unknown>> = {}) {
  const result = parseConfig({ ...more, access: section }, {}, CWD);
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

test("no rules and no budget without being told", () => {
  expect(access({}).access).toMatchObject({ rules: [], fetchBudget: undefined });
});

test("a rule's defaults: everybody, everything, pull and fetch, and nothing private", () => {
  expect(access({ rules: [{ effect: "allow" }] }).access.rules).toEqual([
    {
      effect: "allow",
      accounts: [],
      groups: [],
      signedIn: false,
      anonymous: false,
      from: [],
      what: ["**"],
      actions: ["pull", "fetch"],
      private: false,
    },
  ]);
});

test.each([
  ["accounts", { accounts: ["alice"] }, true],
  ["groups", { groups: ["dev"] }, true],
  ["everybody who has signed in", { signedIn: true }, true],
  ["nobody in particular", {}, false],
  ["a network", { from: ["10.0.0.0/8"] }, false],
  ["anonymous callers", { anonymous: true }, false],
  ["anonymous callers beside accounts", { anonymous: true, accounts: ["alice"] }, false],
  ["a network, and says so", { from: ["10.0.0.0/8"], private: true }, true],
  ["accounts, and says no", { accounts: ["alice"], private: false }, false],
])("a rule for %s opens private repositories, or not", (_, who, expected) => {
  expect(access({ rules: [{ effect: "allow", ...who }] }).access.rules[0]?.private).toBe(expected);
});

describe("${account} in what", () => {
  test("is left to the rules, whatever the environment has of that name", () => {
    const what = ["quay.io/home/${account}/**", "quay.io/$${account}", "${HUB}/team/${account}"];
    const { rules } = access({ rules: [{ effect: "allow", what }] }, {}, { account: "root", HUB: "docker.io" }).access;
    expect(rules[0]?.what).toEqual(["quay.io/home/${account}/**", "quay.io/${account}", "docker.io/team/${account}"]);
  });

  test("is a variable everywhere else", () => {
    const config = access({ rules: [{ effect: "allow", accounts: ["${account}"] }] }, {}, { account: "root" });
    expect(config.access.rules[0]?.accounts).toEqual(["root"]);
    expect(problems({ rules: [{ effect: "allow", accounts: ["${account}"] }] })).toEqual([
      "access.rules[0].accounts[0]: the variable account is not set",
    ]);
  });
});

test("errors name the path and the value, all at once", () => {
  const rules = [
    { effect: "permit" },
    { effect: "allow", what: ["quay.io"] },
    { effect: "allow", what: ["quay.io/acme/app@sha256:0123"] },
    { effect: "allow", what: ["quay.io/a[b]"] },
    { effect: "allow", what: ["quay.io/app:/(a+)+/"] },
    { effect: "allow", what: ["quay.io/app:/${account}-.*/"] },
    { effect: "allow", what: ["unknown.example/**"] },
    { effect: "deny", what: ["quay.io/${account}/**"] },
    { effect: "deny", private: true },
    { effect: "allow", from: ["10.0.0.0/99"] },
    { effect: "allow", accounts: ["a*{b}"] },
    { effect: "allow", actions: ["read"] },
    { effect: "allow", actions: [] },
    { effect: "allow", account: ["alice"] },
    { accounts: ["alice"] },
  ];
  expect(problems({ rules }).map((line) => line.replace(/^access\.rules/, ""))).toEqual([
    '[0].effect: expected one of allow, deny, got "permit"',
    "[1].what[0]: name the repositories as well: quay.io/** is everything of quay.io, and ** everything there is",
    "[2].what[0]: rules name repositories and tags; single digests are allowed and denied by upstreams.<name>",
    '[3].what[0]: the glob "a[b]" contains "[", which is neither part of a name nor *, ** or ?',
    "[4].what[0]: the regular expression /(a+)+/ takes too long on some tags; write it with fewer repetitions, and none inside of another",
    "[5].what[0]: ${account} has no place in a /regex/, where its dots would match anything",
    '[9].from[0]: expected an address or a CIDR, such as 10.1.2.3, 10.0.0.0/8 or fd00::/8, got "10.0.0.0/99"',
    '[10].accounts[0]: the glob "a*{b}" contains "{", which is neither part of a name nor *, ** or ?',
    '[11].actions[0]: expected one of pull, fetch, refresh, push, got "read"',
    "[12].actions: expected at least one entry, got an empty list",
    "[13].account: there is no such key; did you mean accounts?",
    "[14].effect: is missing: expected one of allow, deny",
  ]);
});

test("what does not go together", () => {
  const rules = [
    { effect: "allow", what: ["unknown.example/**", "Index.Docker.io/**", "*.example/**"] },
    { effect: "deny", what: ["quay.io/${account}/**"] },
    { effect: "deny", private: true },
  ];
  expect(problems({ rules })).toEqual([
    "access.rules[0].what[0]: no upstream is called unknown.example; expected a configured one, or a glob",
    "access.rules[1].what[0]: ${account} stands in rules that allow: not every account fits there",
    "access.rules[2].private: a rule that denies gives nothing; leave it out",
  ]);
  const dynamic = { routing: { dynamic: { allow: ["*.example"] } } };
  expect(problems({ rules: rules.slice(0, 1) }, dynamic)).toEqual([]);
});

test("a budget", () => {
  expect(access({ fetchBudget: { bytes: "20GiB", repositories: 50 } }).access.fetchBudget).toEqual({
    bytes: 20 * 2 ** 30,
    repositories: 50,
    perMs: 24 * 3_600_000,
  });
  expect(problems({ fetchBudget: {} })).toEqual([
    "access.fetchBudget: bounds nothing; set bytes, repositories or both",
  ]);
  expect(problems({ fetchBudget: { bytes: "1KiB", repositories: 0, per: "1s" } })).toEqual([
    'access.fetchBudget.bytes: expected a size from 1MiB to 1024TiB, such as 64KiB, 4MiB or 200GiB, got "1KiB"',
    "access.fetchBudget.repositories: expected a whole number from 1 to 1000, got 0",
    'access.fetchBudget.per: expected a duration from 1m to 31d, such as 500ms, 90s, 10m, 12h or 7d, got "1s"',
  ]);
});

test("platforms and frozen of an upstream", () => {
  const upstreams = { "quay.io": { platforms: ["linux/amd64", "windows/amd64"], frozen: true }, "gcr.io": {} };
  expect(access({}, { upstreams }).upstreams).toMatchObject([
    { platforms: ["linux/amd64", "windows/amd64"], frozen: true },
    { platforms: [], frozen: false },
  ]);
  expect(problems({}, { upstreams: { "quay.io": { platforms: ["linux", "linux/arm/v7"] } } })).toEqual([
    'upstreams["quay.io"].platforms[0]: expected <os>/<architecture>, such as linux/amd64 or windows/amd64, got "linux"',
    'upstreams["quay.io"].platforms[1]: expected <os>/<architecture>, such as linux/amd64 or windows/amd64, got "linux/arm/v7"',
  ]);
});
