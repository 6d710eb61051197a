import { LRUCache } from "lru-cache";
import { atMost } from "../base/at-most.ts";
import { compileGlob } from "../base/glob.ts";
import type { AccessRuleConfig } from "../config/types.ts";
import { compileImagePattern, type ImagePattern } from "../oci/image-pattern.ts";
import { formatRepo, type Reference } from "../oci/reference.ts";
import type { Identity } from "./identity.ts";
import { compileNetworks } from "./networks.ts";

/**
 * - `pull`: what is held
 * - `fetch`: what the upstream has to be asked for
 * - `refresh`: asking the upstream although what is held is fresh
 * - `push`: writing, which no proxied upstream offers
 */
export type AccessAction = "pull" | "fetch" | "refresh" | "push";

/** What somebody wants something of. Names are normalised: the upstream's own, the repository's full one. */
export interface AccessSubject {
  readonly upstream: string;
  /** Undefined: the upstream as a whole. */
  readonly repository: string | undefined;
  /** Undefined: the repository as such, or a blob of it. */
  readonly reference: Reference | undefined;
}

export type AccessDecision =
  | {
      readonly allowed: true;
      /** The configuration key of the rule; undefined where there are none. */
      readonly rule: string | undefined;
      /** Whether that rule gives repositories that are not public as well; undefined: it does not say, since there is none. */
      readonly opensPrivate: boolean | undefined;
    }
  | {
      readonly allowed: false;
      /** A configuration key. */
      readonly rule: string;
      readonly message: string;
      /** It is the token that grants too little, and not the rules. */
      readonly byGrant: boolean;
    };

/** Who may have what (`access.rules`). Pure: nothing is asked, and what is held does not count. */
export interface AccessRules {
  /** Whether there are rules; without any, everybody is allowed everything that their token grants. */
  readonly any: boolean;
  decide(identity: Identity, action: AccessAction, subject: AccessSubject): AccessDecision;
}

/** What the rules need to know of names: the same as requests are routed by. */
export interface RuleNames {
  /** The upstream that a name or alias means. */
  upstream(name: string): string | undefined;
  /** The repository's full name at the upstream: on Docker Hub, `nginx` is `library/nginx`. */
  normalise(upstream: string, repository: string): string;
}

/** Stands for the caller's account in `what`. */
const ACCOUNT = `\${${"account"}}`;

/**
 * An account that may take its place: one component of a repository's name. Anything else, wildcards and slashes above all,
 * could make the pattern mean more than its author wrote.
 */
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;

/** Accounts whose patterns are kept compiled, for each pattern that needs it: more than a fleet has at work at once. */
const MAX_ACCOUNTS = 1000;

const FREE: AccessDecision = { allowed: true, rule: undefined, opensPrivate: undefined };

/** Where nothing is configured. */
export const NO_ACCESS_RULES: AccessRules = compileAccessRules([], {
  upstream: () => undefined,
  normalise: (_upstream, repository) => repository,
});

interface CompiledRule {
  readonly actions: readonly AccessAction[];
  readonly denies: boolean;
  readonly opensPrivate: boolean;
  fitsCaller(identity: Identity): boolean;
  fitsSubject(subject: AccessSubject, account: string | undefined): boolean;
}

/**
 * Rules in order: the first that has the caller, the action and the thing decides. Once there is any, what no rule has is
 * denied. A token's grants come first: they only narrow.
 *
 * A rule with a tag judges requests by tag only: the same manifest by its digest is another request. One that allows therefore
 * opens its repository to requests by digest, since the images below an index, and blobs, have no other name.
 *
 * @throws Error where an entry cannot be compiled, which a checked configuration has none of
 */
export function compileAccessRules(configs: readonly AccessRuleConfig[], names: RuleNames): AccessRules {
  const rules = configs.map((config) => compileRule(config, names));
  return {
    any: rules.length > 0,
    decide(identity, action, subject) {
      if (identity.grants !== undefined && !grants(identity, action, subject)) {
        const message = `the token does not grant ${action} of ${written(subject)}`;
        return { allowed: false, rule: "access.mode", message, byGrant: true };
      }
      if (rules.length === 0) {
        return FREE;
      }
      const at = rules.findIndex(
        (rule) =>
          rule.actions.includes(action) && rule.fitsCaller(identity) && rule.fitsSubject(subject, identity.account),
      );
      const rule = rules[at];
      if (rule !== undefined && !rule.denies) {
        return { allowed: true, rule: keyOf(at), opensPrivate: rule.opensPrivate };
      }
      const who = identity.account === undefined ? "anonymous callers" : identity.account;
      const what = `${action} of ${written(subject)}`;
      return rule === undefined
        ? { allowed: false, rule: "access.rules", message: `no rule allows ${who} ${what}`, byGrant: false }
        : { allowed: false, rule: keyOf(at), message: `${keyOf(at)} denies ${who} ${what}`, byGrant: false };
    },
  };
}

function keyOf(at: number): string {
  return `access.rules[${at}]`;
}

function written({ upstream, repository, reference }: AccessSubject): string {
  const name = repository === undefined ? upstream : formatRepo({ upstream, repository });
  if (reference === undefined) {
    return name;
  }
  return reference.kind === "tag" ? `${name}:${reference.tag}` : `${name}@${reference.digest}`;
}

/** What `pull` of a registry token means here: reading, wherever it has to come from. */
const GRANTED_BY: Readonly<Record<AccessAction, string>> = {
  pull: "pull",
  fetch: "pull",
  refresh: "pull",
  push: "push",
};

function grants({ grants: scopes = [] }: Identity, action: AccessAction, subject: AccessSubject): boolean {
  const { upstream, repository } = subject;
  return scopes.some(
    ({ type, name, actions }) =>
      type === "repository" &&
      repository !== undefined &&
      name === formatRepo({ upstream, repository }) &&
      (actions.includes(GRANTED_BY[action]) || actions.includes("*")),
  );
}

function compileRule(config: AccessRuleConfig, names: RuleNames): CompiledRule {
  const { accounts, groups, anonymous, signedIn, from, what, actions, effect } = config;
  const namesWho = accounts.length > 0 || groups.length > 0 || anonymous || signedIn;
  const fitsAccount = accounts.map(compileName);
  const fitsGroup = groups.map(compileName);
  const networks = compileNetworks(from);
  const subjects = what.map((pattern) => compileWhat(pattern, names));
  const denies = effect === "deny";
  return {
    actions,
    denies,
    opensPrivate: config.private,
    fitsCaller({ account, groups: its, address }) {
      const isNamed =
        !namesWho ||
        (account === undefined
          ? anonymous
          : signedIn || fitsAccount.some((fits) => fits(account)) || fitsGroup.some((fits) => its.some(fits)));
      // Who cannot be placed is let in by no list of networks, and kept out by each.
      return (
        isNamed && (networks.size === 0 || (address === undefined ? denies : networks.find(address) !== undefined))
      );
    },
    fitsSubject: (subject, account) => subjects.some((fits) => fits(subject, account, denies)),
  };
}

/** An account's or a group's name, as such or with `*` and `?`. Names of other kinds (`CN=ci,O=acme`) are no globs. */
function compileName(text: string): (name: string) => boolean {
  return /[*?]/.test(text) ? compileGlob(text) : (name) => name === text;
}

type FitsWhat = (subject: AccessSubject, account: string | undefined, denies: boolean) => boolean;

function compileWhat(text: string, names: RuleNames): FitsWhat {
  if (!text.includes(ACCOUNT)) {
    return compilePlainWhat(text, names);
  }
  const known = new LRUCache<string, FitsWhat>(atMost(MAX_ACCOUNTS));
  return (subject, account, denies) => {
    if (account === undefined || !COMPONENT.test(account)) {
      return false;
    }
    let fits = known.get(account);
    if (fits === undefined) {
      fits = compilePlainWhat(text.replaceAll(ACCOUNT, account), names);
      known.set(account, fits);
    }
    return fits(subject, account, denies);
  };
}

function compilePlainWhat(text: string, names: RuleNames): FitsWhat {
  const { upstream, image } = splitWhat(text);
  if (upstream === undefined) {
    // `**` may stand for the upstream and more, so it is held against the whole name.
    const pattern = compileImagePattern(image, (repository) => repository);
    return ({ upstream: name, repository, reference }, _account, denies) =>
      fitsImage(pattern, repository === undefined ? name : `${name}/${repository}`, reference, denies);
  }
  const canonical = names.upstream(upstream);
  const fitsUpstream = canonical === undefined ? compileGlob(upstream) : (name: string) => name === canonical;
  const pattern = compileImagePattern(image, (repository) =>
    canonical === undefined ? repository : names.normalise(canonical, repository),
  );
  return ({ upstream: name, repository, reference }, _account, denies) =>
    repository !== undefined && fitsUpstream(name) && fitsImage(pattern, repository, reference, denies);
}

function fitsImage(pattern: ImagePattern, name: string, reference: Reference | undefined, denies: boolean): boolean {
  const byTag = reference?.kind === "tag" ? reference.tag : undefined;
  const fitsReference =
    pattern.part === "all" || (pattern.part === "tag" && (byTag === undefined ? !denies : pattern.tag(byTag)));
  return fitsReference && pattern.repository(name);
}

/** `upstream` is undefined for a pattern that begins with `**`, and the rest is over whole names. */
export function splitWhat(text: string): { readonly upstream: string | undefined; readonly image: string } {
  const slash = text.indexOf("/");
  return text.startsWith("**") || slash === -1
    ? { upstream: undefined, image: text }
    : { upstream: text.slice(0, slash), image: text.slice(slash + 1) };
}
