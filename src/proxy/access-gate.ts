import type { FetchBudgets } from "../access/budget.ts";
import type { ContentRules } from "../access/content-rules.ts";
import { AccessDeniedError } from "../access/denied-error.ts";
import type { Identity } from "../access/identity.ts";
import type { AccessDecision, AccessRules } from "../access/rules.ts";
import type { AccessConfig } from "../config/types.ts";
import { formatRepo, type Reference, type RepoRef } from "../oci/reference.ts";
import type { Visibility } from "./answers.ts";
import { type Withheld, WithheldError } from "./withheld.ts";

/** Whether a caller may have what is not public. */
export interface Privacy {
  readonly readsPrivate: boolean;
  /** The configuration key that decides so. */
  readonly privateKey: string;
}

/** What a caller may have of one repository. */
export interface Admission extends Privacy {
  /** Why the upstream is not asked on the caller's behalf; undefined where it is. */
  readonly withheld: Withheld | undefined;
  /** To be told of the bytes that an upstream has sent since the caller wanted them; undefined where nobody counts them. */
  readonly fetched: ((bytes: number) => void) | undefined;
  /** Whoever reaches Weir may have it too, so that what is public may be kept and given out by whatever stands in front. */
  readonly forEverybody: boolean;
}

/** What would become of a caller. */
export interface AccessOutlook extends Privacy {
  /** The configuration key that keeps the caller out; undefined where none does. */
  readonly deniedBy: string | undefined;
  /** The one that keeps the upstream from being asked on its behalf. */
  readonly withheldBy: string | undefined;
}

/** A call of somebody who has been let in. */
export interface Admitted {
  readonly access: Admission;
}

export interface AccessGateDeps {
  /** Each asked for each request, so that a reload counts at once. */
  access(): AccessConfig;
  accessRules(): AccessRules;
  rulesOf(upstream: string): ContentRules;
  readonly budgets: FetchBudgets;
}

/** Whether a caller may have what it asks for, and from where; before anybody is asked, and before anything shows. */
export class AccessGate {
  readonly #deps: AccessGateDeps;

  constructor(deps: AccessGateDeps) {
    this.#deps = deps;
  }

  /**
   * @param reference undefined for a repository as such, and for its blobs
   * @throws AccessDeniedError naming the rule
   */
  async admit(identity: Identity, repo: RepoRef, reference: Reference | undefined): Promise<Admission> {
    const rules = this.#deps.accessRules();
    const pull = this.#decide(rules, identity, repo, reference, "pull");
    if (!pull.allowed) {
      throw denial(pull, repo);
    }
    const fetch = this.#decide(rules, identity, repo, reference, "fetch");
    const ruled = fetch.allowed ? undefined : withheld(repo.upstream, () => denial(fetch, repo));
    const budget = this.#deps.access().fetchBudget;
    const account = budget && this.#deps.budgets.of(budget, identity);
    const spent = await account?.spent(repo);
    return {
      ...this.#privacy(identity, pull),
      withheld: this.frozen(repo.upstream) ?? ruled ?? (spent && withheld(repo.upstream, () => spent)),
      fetched: account && ((bytes) => account.add(repo, bytes)),
      forEverybody: this.#isForEverybody(rules, repo, reference),
    };
  }

  /**
   * Whether {@link admit} lets the caller in, with the right to what is held of such a repository; that takes no budget, nor that
   * the upstream may be asked.
   */
  mayHaveHeld(identity: Identity, repo: RepoRef, reference: Reference | undefined, visibility: Visibility): boolean {
    const pull = this.#decide(this.#deps.accessRules(), identity, repo, reference, "pull");
    return pull.allowed && (visibility === "public" || this.#privacy(identity, pull).readsPrivate);
  }

  /** Whether a list may name it, or one of its tags. */
  lists(identity: Identity, repo: RepoRef, reference?: Reference): boolean {
    return this.#decide(this.#deps.accessRules(), identity, repo, reference, "pull").allowed;
  }

  /** What {@link admit} would say, budgets aside. */
  outlook(identity: Identity, repo: RepoRef, reference: Reference | undefined): AccessOutlook {
    const rules = this.#deps.accessRules();
    const pull = this.#decide(rules, identity, repo, reference, "pull");
    const fetch = this.#decide(rules, identity, repo, reference, "fetch");
    return {
      ...this.#privacy(identity, pull),
      deniedBy: pull.allowed ? undefined : pull.rule,
      withheldBy: this.#deps.rulesOf(repo.upstream).frozen ?? (fetch.allowed ? undefined : fetch.rule),
    };
  }

  /** Set where the upstream is asked on nobody's behalf. */
  frozen(upstream: string): Withheld | undefined {
    const key = this.#deps.rulesOf(upstream).frozen;
    if (key === undefined) {
      return undefined;
    }
    const message = `Weir serves what it holds of ${upstream}, and no more: ${key} is true`;
    return { ...withheld(upstream, () => new AccessDeniedError("frozen", key, message)), frozen: true };
  }

  #decide(
    rules: AccessRules,
    identity: Identity,
    repo: RepoRef,
    reference: Reference | undefined,
    action: "pull" | "fetch",
  ): AccessDecision {
    return !rules.any && identity.grants === undefined
      ? UNRULED
      : rules.decide(identity, action, { upstream: repo.upstream, repository: repo.repository, reference });
  }

  #isForEverybody(rules: AccessRules, repo: RepoRef, reference: Reference | undefined): boolean {
    const { signIn, allow, deny } = this.#deps.access();
    const comeIn = signIn.anonymous && allow.length === 0 && deny.length === 0;
    return comeIn && this.#decide(rules, NOBODY, repo, reference, "pull").allowed;
  }

  #privacy(identity: Identity, pull: AccessDecision): Privacy {
    return decidePrivacy(this.#deps.access(), identity, pull);
  }
}

/** Without rules whoever has signed in reads what Weir's own credentials can read; with them, whom the rule opens it to. */
export function decidePrivacy(
  { privateToAnonymous }: Pick<AccessConfig, "privateToAnonymous">,
  identity: Identity,
  pull: AccessDecision,
): Privacy {
  if (!pull.allowed) {
    return { readsPrivate: false, privateKey: pull.rule };
  }
  return {
    readsPrivate: privateToAnonymous || (pull.opensPrivate ?? identity.account !== undefined),
    privateKey: privateToAnonymous || pull.rule === undefined ? "access.privateToAnonymous" : `${pull.rule}.private`,
  };
}

/** From nowhere in particular: rules about addresses let them in nowhere, and keep them out everywhere. */
const NOBODY: Identity = {
  account: undefined,
  groups: [],
  via: "anonymous",
  address: undefined,
  grants: undefined,
};

const UNRULED: AccessDecision = { allowed: true, rule: undefined, opensPrivate: undefined };

function denial(refused: Extract<AccessDecision, { allowed: false }>, repo: RepoRef): AccessDeniedError {
  const { byGrant, rule, message } = refused;
  return new AccessDeniedError(byGrant ? "grant" : "rule", rule, message, { repository: formatRepo(repo) });
}

function withheld(upstream: string, why: () => AccessDeniedError): Withheld {
  return { frozen: false, error: () => new WithheldError(upstream, why()) };
}
