// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { anonymous, type Identity } from "../../../src/access/identity.ts";
import { type AccessAction, type AccessRules, compileAccessRules, NO_ACCESS_RULES } from "../../../src/access/rules.ts";
import type { AccessRuleConfig } from "../../../src/config/types.ts";
import { parseReference, type Reference } from "../../../src/oci/reference.ts";
import { parseScope, type Scope } from "../../../src/oci/scope.ts";
import { normaliseRepository } from "../../../src/upstream/adapters/index.ts";
import { ruleConfig } from "../../support/rules.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

const NAMES = {
  upstream: (name: string) =>
    new Map([
      ["docker.io", "docker.io"],
      ["index.docker.io", "docker.io"],
      ["quay.io", "quay.io"],
      ["reg.example:5000", "reg.example:5000"],
    ]).get(name.toLowerCase()),
  normalise: (upstream: string, repository: string) =>
    normaliseRepository(upstream === "docker.io" ? "dockerhub" : "generic", repository),
};

function compile(...rules: readonly Partial<AccessRuleConfig>[]): AccessRules {
  return compileAccessRules(rules.map(ruleConfig), NAMES);
}

function who(account?: string, over: Partial<Identity> = {}): Identity {
  return { ...anonymous("192.0.2.7"), account, via: account === undefined ? "anonymous" : "password", ...over };
}

/** `docker.io/library/nginx:1`, `...@sha256:...`, or a repository as such. */
function subject(text: string) {
  const [, upstream = "", repository = "", reference] = /^([^/]+)\/([^:@]+)[:@]?(.*)$/.exec(text) ?? [];
  const parsed: Reference | undefined = reference ? parseReference(reference) : undefined;
  return { upstream, repository, reference: parsed };
}

function decide(rules: AccessRules, identity: Identity, text: string, action: AccessAction = "pull") {
  return rules.decide(identity, action, subject(text));
}

/** The key of the rule that allowed it, or that of the one that did not behind a `!`. */
function verdict(rules: AccessRules, identity: Identity, text: string, action: AccessAction = "pull"): string {
  const { allowed, rule: key } = decide(rules, identity, text, action);
  return `${allowed ? "" : "!"}${key ?? "free"}`;
}

test("without rules everybody is allowed everything", () => {
  expect(NO_ACCESS_RULES.any).toBe(false);
  expect(decide(NO_ACCESS_RULES, who(), "quay.io/a/b:1", "push")).toEqual({
    allowed: true,
    rule: undefined,
    opensPrivate: undefined,
  });
});

test("once there is any rule, what none fits is denied", () => {
  const rules = compile({ what: ["quay.io/acme/**"] });
  expect(rules.any).toBe(true);
  expect(verdict(rules, who(), "quay.io/acme/app:1")).toBe("access.rules[0]");
  expect(decide(rules, who(), "quay.io/other/app:1")).toEqual({
    allowed: false,
    rule: "access.rules",
    message: "no rule allows anonymous callers pull of quay.io/other/app:1",
    byGrant: false,
  });
});

test("the first that fits decides, and says which it is", () => {
  const rules = compile({ effect: "deny", accounts: ["bob"], what: ["quay.io/acme/secret"] }, { signedIn: true });
  expect(verdict(rules, who("alice"), "quay.io/acme/secret:1")).toBe("access.rules[1]");
  expect(decide(rules, who("bob"), "quay.io/acme/secret:1")).toMatchObject({
    rule: "access.rules[0]",
    message: "access.rules[0] denies bob pull of quay.io/acme/secret:1",
  });
  expect(verdict(rules, who("bob"), "quay.io/acme/app:1")).toBe("access.rules[1]");
  expect(verdict(rules, who(), "quay.io/acme/app:1")).toBe("!access.rules");
});

describe("who", () => {
  const cases: [string, Partial<AccessRuleConfig>, Identity, boolean][] = [
    ["everybody, where it names nobody", {}, who(), true],
    ["an account", { accounts: ["alice"] }, who("alice"), true],
    ["accounts are told apart by case", { accounts: ["alice"] }, who("Alice"), false],
    ["another account", { accounts: ["alice"] }, who("bob"), false],
    ["nobody is no account", { accounts: ["*"] }, who(), false],
    ["a glob over accounts", { accounts: ["ci-*"] }, who("ci-7"), true],
    ["a star stops at a slash", { accounts: ["*"] }, who("a/b"), false],
    ["two stars do not", { accounts: ["**"] }, who("a/b"), true],
    ["a subject that is no glob", { accounts: ["CN=ci,O=acme"] }, who("CN=ci,O=acme"), true],
    ["one of its groups", { groups: ["dev"] }, who("bob", { groups: ["ops", "dev"] }), true],
    ["none of its groups", { groups: ["dev"] }, who("bob", { groups: ["ops"] }), false],
    ["an account or a group", { accounts: ["alice"], groups: ["dev"] }, who("alice"), true],
    [
      "a group of somebody anonymous counts for nothing",
      { groups: ["dev"] },
      who(undefined, { groups: ["dev"] }),
      false,
    ],
    ["whoever has signed in", { signedIn: true }, who("x"), true],
    ["who has not", { signedIn: true }, who(), false],
    ["anonymous callers", { anonymous: true }, who(), true],
    ["anonymous callers are nobody else", { anonymous: true }, who("alice"), false],
    ["from a network", { from: ["192.0.2.0/24"] }, who(), true],
    ["from another", { from: ["10.0.0.0/8"] }, who(), false],
    [
      "an account has to come from the network as well",
      { accounts: ["alice"], from: ["10.0.0.0/8"] },
      who("alice"),
      false,
    ],
    ["and then fits", { accounts: ["alice"], from: ["10.0.0.0/8"] }, who("alice", { address: "10.1.2.3" }), true],
    ["an IPv4 address in IPv6", { from: ["10.0.0.0/8"] }, who("a", { address: "::ffff:10.1.2.3" }), true],
    ["who cannot be placed is in no network", { from: ["0.0.0.0/0", "::/0"] }, who("a", { address: undefined }), false],
  ];
  test.each(cases)("%s", (_, config, identity, fits) => {
    expect(decide(compile(config), identity, "quay.io/a/b:1").allowed).toBe(fits);
  });

  test("who cannot be placed is kept out by a rule that denies a network", () => {
    const rules = compile({ effect: "deny", from: ["10.0.0.0/8"] }, {});
    expect(verdict(rules, who(undefined, { address: undefined }), "quay.io/a/b:1")).toBe("!access.rules[0]");
    expect(verdict(rules, who(), "quay.io/a/b:1")).toBe("access.rules[1]");
  });
});

describe("what", () => {
  const cases: [string, string, string, boolean][] = [
    ["everything", "**", "reg.example:5000/a/b:1", true],
    ["an upstream", "quay.io/**", "quay.io/a/b/c:1", true],
    ["another upstream", "quay.io/**", "docker.io/a/b:1", false],
    ["one component", "quay.io/acme/*", "quay.io/acme/a/b:1", false],
    ["a glob over upstreams", "*.io/acme/app", "quay.io/acme/app:1", true],
    ["a port", "reg.example:5000/acme/app:1", "reg.example:5000/acme/app:1", true],
    ["a port and another tag", "reg.example:5000/acme/app:1", "reg.example:5000/acme/app:2", false],
    ["an alias means its upstream", "index.docker.io/acme/app", "docker.io/acme/app:1", true],
    ["in upper case, too", "Index.Docker.IO/acme/app", "docker.io/acme/app:1", true],
    ["a short name of Docker Hub", "docker.io/nginx", "docker.io/library/nginx:1", true],
    ["the same with a tag", "docker.io/nginx:1.*", "docker.io/library/nginx:1.27", true],
    ["anywhere", "**/nginx", "docker.io/library/nginx:1", true],
    ["a tag anywhere", "**:latest", "docker.io/library/nginx:latest", true],
    ["another tag anywhere", "**:latest", "docker.io/library/nginx:1", false],
    ["a regular expression over tags", "quay.io/**:/v\\d+/", "quay.io/a/b:v17", true],
    ["which has to match all of it", "quay.io/**:/v\\d+/", "quay.io/a/b:v17-rc", false],
    ["an upstream that nobody knows", "new.example/**", "new.example/a:1", true],
    ["a name in front of another", "quay.io/acme", "quay.io/acme-evil:1", false],
    ["a dot is a dot", "quay.io/a.b", "quay.io/axb:1", false],
  ];
  test.each(cases)("%s: %s", (_, what, asked, fits) => {
    expect(decide(compile({ what: [what] }), who(), asked).allowed).toBe(fits);
  });

  test("a rule with a tag judges requests by tag; one that allows opens its repository to digests and blobs", () => {
    const allows = compile({ what: ["quay.io/acme/app:v*"] });
    expect(decide(allows, who(), "quay.io/acme/app:v1").allowed).toBe(true);
    expect(decide(allows, who(), "quay.io/acme/app:dev").allowed).toBe(false);
    expect(decide(allows, who(), `quay.io/acme/app@${DIGEST}`).allowed).toBe(true);
    expect(decide(allows, who(), "quay.io/acme/app").allowed).toBe(true);
    expect(decide(allows, who(), `quay.io/acme/other@${DIGEST}`).allowed).toBe(false);
    const denies = compile({ effect: "deny", what: ["quay.io/acme/app:dev"] }, {});
    expect(verdict(denies, who(), "quay.io/acme/app:dev")).toBe("!access.rules[0]");
    expect(verdict(denies, who(), `quay.io/acme/app@${DIGEST}`)).toBe("access.rules[1]");
    expect(verdict(denies, who(), "quay.io/acme/app")).toBe("access.rules[1]");
  });
});

test("each action is decided by itself", () => {
  const rules = compile(
    { effect: "deny", anonymous: true, actions: ["fetch"] },
    { actions: ["pull", "fetch"] },
    { accounts: ["ops"], actions: ["refresh"] },
  );
  expect(verdict(rules, who(), "quay.io/a/b:1", "pull")).toBe("access.rules[1]");
  expect(verdict(rules, who(), "quay.io/a/b:1", "fetch")).toBe("!access.rules[0]");
  expect(verdict(rules, who("ops"), "quay.io/a/b:1", "fetch")).toBe("access.rules[1]");
  expect(verdict(rules, who("ops"), "quay.io/a/b:1", "refresh")).toBe("access.rules[2]");
  expect(verdict(rules, who("ops"), "quay.io/a/b:1", "push")).toBe("!access.rules");
});

test("what is private is opened by the rule that decides", () => {
  const rules = compile({ accounts: ["alice"], private: true }, { from: ["192.0.2.0/24"] });
  expect(decide(rules, who("alice"), "quay.io/a/b:1")).toMatchObject({ allowed: true, opensPrivate: true });
  expect(decide(rules, who("bob"), "quay.io/a/b:1")).toMatchObject({ allowed: true, opensPrivate: false });
});

describe("${account}", () => {
  const home = compile({
    signedIn: true,
    what: ["quay.io/home/${account}/**", "docker.io/${account}/app:${account}-*"],
  });

  test("is the caller's account", () => {
    expect(decide(home, who("alice"), "quay.io/home/alice/app:1").allowed).toBe(true);
    expect(decide(home, who("bob"), "quay.io/home/alice/app:1").allowed).toBe(false);
    expect(decide(home, who("alice"), "docker.io/alice/app:alice-1").allowed).toBe(true);
    expect(decide(home, who("alice"), "docker.io/alice/app:bob-1").allowed).toBe(false);
    expect(decide(home, who(), "quay.io/home/alice/app:1").allowed).toBe(false);
  });

  test.each([
    "*",
    "**",
    "?",
    "a*",
    "alice/**",
    "../alice",
    "alice/../bob",
    "a/b",
    "",
    "Alice",
    "al:ice",
    "/.*/",
    "${account}",
  ])("A1 an account called %j opens nothing", (account) => {
    for (const asked of [
      "quay.io/home/alice/app:1",
      "quay.io/home/bob/app:1",
      "quay.io/home/alice",
      "docker.io/alice/app:1",
    ]) {
      expect(decide(home, who(account), asked).allowed).toBe(false);
    }
  });

  test("property: an account opens what stands under its very name, and nothing else", () => {
    const component = fc.stringMatching(/^[a-z0-9]+(?:[._-][a-z0-9]+){0,2}$/);
    const hostile = fc.string({
      unit: fc.constantFrom("a", "b", "*", "?", "/", ".", "-", ":", "@", "[", "{", "$", "A"),
    });
    fc.assert(
      fc.property(fc.oneof(component, hostile), component, (account, owner) => {
        const { allowed } = decide(home, who(account), `quay.io/home/${owner}/app:1`);
        expect(allowed).toBe(account === owner);
      }),
    );
  });
});

describe("a token's grants", () => {
  const scopes = (...texts: readonly string[]): readonly Scope[] => texts.flatMap((text) => parseScope(text) ?? []);

  test("only narrow what the rules allow", () => {
    const rules = compile({ accounts: ["alice"], what: ["quay.io/acme/**"] });
    const alice = who("alice", {
      grants: scopes("repository:quay.io/acme/app:pull", "repository:docker.io/x/y:pull,push"),
    });
    expect(verdict(rules, alice, "quay.io/acme/app:1")).toBe("access.rules[0]");
    expect(verdict(rules, alice, "quay.io/acme/app:1", "fetch")).toBe("access.rules[0]");
    expect(decide(rules, alice, "quay.io/acme/other:1")).toEqual({
      allowed: false,
      rule: "access.mode",
      message: "the token does not grant pull of quay.io/acme/other:1",
      byGrant: true,
    });
    expect(verdict(rules, alice, "docker.io/x/y:1")).toBe("!access.rules");
  });

  test("count without rules, too", () => {
    const grants = scopes("repository:quay.io/acme/app:push", "repository:quay.io/acme/all:*", "registry:catalog:*");
    const holder = who("alice", { grants });
    expect(decide(NO_ACCESS_RULES, holder, "quay.io/acme/app:1").allowed).toBe(false);
    expect(decide(NO_ACCESS_RULES, holder, "quay.io/acme/app:1", "push").allowed).toBe(true);
    expect(decide(NO_ACCESS_RULES, holder, "quay.io/acme/all:1").allowed).toBe(true);
    expect(decide(NO_ACCESS_RULES, who("alice", { grants: [] }), "quay.io/acme/all:1").allowed).toBe(false);
  });
});

describe("properties", () => {
  const name = fc.constantFrom("alice", "bob", "ci-1");
  const configs = fc.array(
    fc.record({
      effect: fc.constantFrom("allow" as const, "deny" as const),
      accounts: fc.subarray(["alice", "bob", "ci-*"]),
      groups: fc.subarray(["dev", "ops"]),
      signedIn: fc.boolean(),
      anonymous: fc.boolean(),
      from: fc.subarray(["192.0.2.0/24", "10.0.0.0/8"]),
      what: fc.subarray(["**", "quay.io/**", "docker.io/nginx", "quay.io/acme/*:v*", "**:latest"], { minLength: 1 }),
      actions: fc.subarray(["pull", "fetch", "refresh", "push"] as const, { minLength: 1 }),
      private: fc.boolean(),
    }),
    { maxLength: 6 },
  );
  const identities = fc.record({
    account: fc.option(name, { nil: undefined }),
    groups: fc.subarray(["dev", "ops"]),
    address: fc.constantFrom("192.0.2.7", "10.1.2.3", "203.0.113.1", undefined),
  });
  const asked = fc.constantFrom(
    "quay.io/acme/app:v1",
    "quay.io/acme/app:latest",
    `quay.io/acme/app@${DIGEST}`,
    "quay.io/acme/app",
    "docker.io/library/nginx:1",
  );
  const action = fc.constantFrom<AccessAction[]>("pull", "fetch", "refresh", "push");

  test("a rule that decides is the first of those that would decide alone", () => {
    fc.assert(
      fc.property(configs, identities, asked, action, (rules, identity, text, does) => {
        const caller = who(identity.account, identity);
        const alone = rules.findIndex((config) => verdict(compile(config), caller, text, does).endsWith("rules[0]"));
        const got = verdict(compile(...rules), caller, text, does);
        const expected =
          rules.length === 0
            ? "free"
            : alone === -1
              ? "!access.rules"
              : `${rules[alone]?.effect === "deny" ? "!" : ""}access.rules[${alone}]`;
        expect(got).toBe(expected);
      }),
    );
  });

  test("a rule behind the others never changes what they have decided", () => {
    fc.assert(
      fc.property(configs, configs, identities, asked, action, (rules, more, identity, text, does) => {
        const caller = who(identity.account, identity);
        const before = verdict(compile(...rules), caller, text, does);
        if (/rules\[\d+\]$/.test(before)) {
          expect(verdict(compile(...rules, ...more), caller, text, does)).toBe(before);
        }
      }),
    );
  });
});
