import { z } from "zod";
import { compileGlob } from "../base/glob.ts";
import { probeImagePattern } from "../oci/image-pattern.ts";
import type { AccessRuleConfig, FetchBudgetConfig } from "./types.ts";
import { checkedBy, choice, duration, flag, integer, mapping, network, size, value } from "./values.ts";

/** What stands for the caller's account in `what`. */
export const ACCOUNT = "account";
const ACCOUNT_EXPRESSION = `\${${ACCOUNT}}`;

const ACTIONS = ["pull", "fetch", "refresh", "push"] as const;

/** More rules than anybody keeps in mind; each is held against each request. */
const MAX_RULES = 1000;

const name = value(
  "a name, in which * and ? may stand for other characters",
  (input) => {
    if (typeof input !== "string" || input === "") {
      return undefined;
    }
    return /[*?]/.test(input) ? checkedBy(compileGlob, input) : input;
  },
  { type: "string", minLength: 1 },
);

const what = value(
  "<upstream>/<repository> or <upstream>/<repository>:<tag>, as a glob",
  (input) => (typeof input === "string" ? checkedBy(checkWhat, input) : undefined),
  { type: "string", minLength: 1 },
);

/** @throws Error with a sentence for the operator */
function checkWhat(pattern: string): void {
  if (pattern.includes("@")) {
    throw new Error("rules name repositories and tags; single digests are allowed and denied by upstreams.<name>");
  }
  const slash = pattern.indexOf("/");
  if (slash === -1 && !pattern.startsWith("**")) {
    throw new Error("name the repositories as well: quay.io/** is everything of quay.io, and ** everything there is");
  }
  // Any account does: what can be put in has none of a glob's characters.
  const [plain, tag] = substituted(pattern, "a");
  if (tag?.startsWith("/") && tag !== substituted(pattern, "b")[1]) {
    throw new Error(`${ACCOUNT_EXPRESSION} has no place in a /regex/, where its dots would match anything`);
  }
  if (plain.startsWith("**")) {
    probeImagePattern(plain);
  } else {
    compileGlob(plain.slice(0, slash));
    probeImagePattern(plain.slice(slash + 1));
  }
}

/** The pattern with that account, and its tag part. */
function substituted(pattern: string, account: string): readonly [string, string | undefined] {
  const plain = pattern.replaceAll(ACCOUNT_EXPRESSION, account);
  const image = plain.startsWith("**") ? plain : plain.slice(plain.indexOf("/") + 1);
  const colon = image.indexOf(":");
  return [plain, colon === -1 ? undefined : image.slice(colon + 1)];
}

const rule = mapping({
  effect: choice(["allow", "deny"]).describe("What the rule does with whom it fits."),
  accounts: z.array(name).prefault([]).describe("Accounts it fits, perhaps as globs."),
  groups: z.array(name).prefault([]).describe("Groups whose members it fits, perhaps as globs."),
  signedIn: flag.prefault(false).describe("It fits everybody who has signed in."),
  anonymous: flag.prefault(false).describe("It fits everybody who has not."),
  from: z
    .array(network)
    .prefault([])
    .describe("Addresses and CIDRs: whom else it fits has to come from one of them, too."),
  what: z
    .array(what)
    .min(1)
    .prefault(["**"])
    .describe(
      `Globs <upstream>/<repository> or <upstream>/<repository>:<tag>; ${ACCOUNT_EXPRESSION} is the caller's account.`,
    ),
  actions: z
    .array(choice(ACTIONS))
    .min(1)
    .prefault(["pull", "fetch"])
    .describe("pull: what is held; fetch: what the upstream has to be asked for; refresh; push."),
  private: flag
    .optional()
    .describe(
      "It gives private repositories, too; when left out, it does where it names accounts, groups or signedIn.",
    ),
});

export const accessRulesSchema = z
  .array(rule)
  .max(MAX_RULES)
  .prefault([])
  .describe("Who may have what, in order: the first that fits decides, and what none fits is denied. None: no rules.");

/** Beyond it the list of a caller's repositories is too long to travel with each new one. */
const MAX_REPOSITORIES = 1000;

export const fetchBudgetSchema = mapping({
  bytes: size({ min: 2 ** 20, max: 2 ** 50 })
    .optional()
    .describe("New bytes that one caller may have fetched."),
  repositories: integer({ min: 1, max: MAX_REPOSITORIES })
    .optional()
    .describe("Different repositories from which one caller may have something new fetched."),
  per: duration({ min: "1m", max: "31d" }).prefault("24h").describe("In so long a time."),
})
  .optional()
  .describe("How much that is not held each account, or address of anonymous callers, may have fetched.");

type ParsedRule = z.output<typeof rule>;
type Report = (path: readonly (string | number)[], message: string) => void;

/**
 * @param canonical an upstream's own name for a name or alias; undefined where there is none
 * @param anyHost whether upstreams are made for hosts that are not configured
 */
export function accessRules(
  parsed: readonly ParsedRule[],
  { canonical, anyHost }: { canonical(name: string): string | undefined; readonly anyHost: boolean },
  report: Report,
): readonly AccessRuleConfig[] {
  return parsed.map((entry, i) => {
    const { accounts, groups, signedIn, anonymous, effect } = entry;
    for (const [j, pattern] of entry.what.entries()) {
      const upstream = pattern.slice(0, Math.max(0, pattern.indexOf("/")));
      const isName = upstream !== "" && !/[*?$]/.test(upstream);
      if (isName && !anyHost && canonical(upstream.toLowerCase()) === undefined) {
        report(["rules", i, "what", j], `no upstream is called ${upstream}; expected a configured one, or a glob`);
      }
      if (effect === "deny" && pattern.includes(ACCOUNT_EXPRESSION)) {
        report(
          ["rules", i, "what", j],
          `${ACCOUNT_EXPRESSION} stands in rules that allow: not every account fits there`,
        );
      }
    }
    const namesAccounts = accounts.length > 0 || groups.length > 0 || signedIn;
    if (effect === "deny" && entry.private !== undefined) {
      report(["rules", i, "private"], "a rule that denies gives nothing; leave it out");
    }
    return { ...entry, private: effect === "allow" && (entry.private ?? (namesAccounts && !anonymous)) };
  });
}

export function fetchBudget(parsed: z.output<typeof fetchBudgetSchema>, report: Report): FetchBudgetConfig | undefined {
  if (parsed === undefined) {
    return undefined;
  }
  if (parsed.bytes === undefined && parsed.repositories === undefined) {
    report(["fetchBudget"], "bounds nothing; set bytes, repositories or both");
  }
  return { bytes: parsed.bytes, repositories: parsed.repositories, perMs: parsed.per };
}
