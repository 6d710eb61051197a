import { AccessDeniedError } from "../access/denied-error.ts";
import type { Identity } from "../access/identity.ts";
import { normaliseAddress } from "../access/networks.ts";
import type { AccessAction } from "../access/rules.ts";
import { quote } from "../base/quote.ts";
import { createLive, type Live } from "../compose/live.ts";
import { ConfigError } from "../config/config-error.ts";
import { loadConfigFrom } from "../config/load.ts";
import { formatReference, formatRepo, type Reference, type RepoRef } from "../oci/reference.ts";
import { decidePrivacy } from "../proxy/access-gate.ts";
import { parseSelection } from "../proxy/upkeep/selection.ts";
import { UpkeepError } from "../proxy/upkeep/upkeep.ts";
import { formatProblems } from "./check.ts";
import { EXIT } from "./exit-code.ts";
import { table } from "./table.ts";
import type { Terminal } from "./terminal.ts";

export interface AccessTestOptions {
  readonly config?: string | undefined;
  readonly as?: string | undefined;
  readonly groups?: string | undefined;
  readonly from?: string | undefined;
  readonly anonymous?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const ACTIONS: readonly AccessAction[] = ["pull", "fetch", "refresh", "push"];

/** What one part of the configuration says. `key` is the one that decides. */
interface Verdict {
  readonly allowed: boolean;
  readonly key: string | undefined;
  readonly message: string;
}

/** What would become of a request, part by part. Whether a repository is private is known to its registry only. */
interface Report {
  readonly allowed: boolean;
  readonly action: AccessAction;
  readonly reference: string;
  readonly who: string;
  /** `access.allow` and `deny`; undefined where no address was given. */
  readonly address: Verdict | undefined;
  readonly rules: Verdict;
  /** `upstreams.<name>.allow` and `deny`. */
  readonly content: Verdict;
  /** Whether the upstream would be asked for what is not held. */
  readonly upstream: Verdict;
  /** What would come of it if the repository is private. */
  readonly ifPrivate: Verdict;
}

/**
 * `weir access test ACTION REF`: what the configuration says of a caller, an action and a reference. Asks nobody, and looks at
 * nothing that is held.
 */
export async function accessTest(
  action: string,
  reference: string,
  options: AccessTestOptions,
  terminal: Terminal,
): Promise<number> {
  const wanted = ACTIONS.find((one) => one === action);
  if (wanted === undefined) {
    return usage(terminal, `expected one of ${ACTIONS.join(", ")}, got ${quote(action)}`);
  }
  const identity = identityOf(options);
  if (typeof identity === "string") {
    return usage(terminal, identity);
  }
  try {
    const { config } = await loadConfigFrom({ file: options.config, env: terminal.env, cwd: terminal.cwd() });
    const report = examine(createLive(config), identity, wanted, reference);
    terminal.stdout.write(options.json === true ? `${JSON.stringify(report, undefined, 2)}\n` : words(report));
    return report.allowed ? EXIT.ok : EXIT.failed;
  } catch (error) {
    if (error instanceof UpkeepError) {
      return usage(terminal, error.message);
    }
    if (!(error instanceof ConfigError)) {
      throw error;
    }
    // Not 1, which says that the caller is refused.
    terminal.stderr.write(formatProblems(error.problems));
    return EXIT.usage;
  }
}

function usage(terminal: Terminal, sentence: string): number {
  terminal.stderr.write(`weir: ${sentence}\n`);
  return EXIT.usage;
}

/** Who the options describe, or what is wrong with them. */
function identityOf(options: AccessTestOptions): Identity | string {
  const { as, anonymous, from } = options;
  const groups = (options.groups ?? "").split(",").filter((group) => group !== "");
  if (as !== undefined && anonymous === true) {
    return "--as and --anonymous exclude each other";
  }
  if (as === undefined && groups.length > 0) {
    return "--groups are an account's: say whose with --as";
  }
  const address = from === undefined ? undefined : normaliseAddress(from);
  if (from !== undefined && address === undefined) {
    return `--from: expected an address such as 10.1.2.3, got ${quote(from)}`;
  }
  return { account: as, groups, via: as === undefined ? "anonymous" : "password", address, grants: undefined };
}

/** @throws UpkeepError for what is no image or repository */
function examine(live: Live, identity: Identity, action: AccessAction, text: string): Report {
  const { repo, reference } = subjectOf(text, live);
  const subject = { upstream: repo.upstream, repository: repo.repository, reference };
  const decision = live.accessRules.decide(identity, action, subject);
  const pull = live.accessRules.decide(identity, "pull", subject);
  const fetch = live.accessRules.decide(identity, "fetch", subject);
  const { readsPrivate, privateKey } = decidePrivacy(live.config.access, identity, pull);
  const curated = live.upstreams.get(repo.upstream);
  const isKnown = curated !== undefined || live.routes.dynamic(repo.upstream);
  const forbids =
    reference === undefined
      ? curated?.rules.repository(repo.repository)
      : curated?.rules.manifest(repo.repository, reference);
  const withheldBy = curated?.rules.frozen ?? (fetch.allowed ? undefined : fetch.rule);
  const parts = {
    address: identity.address === undefined ? undefined : addressVerdict(live, identity.address),
    rules: decision.allowed
      ? verdict(true, decision.rule, decision.rule === undefined ? "there are none" : `allowed by ${decision.rule}`)
      : verdict(false, decision.rule, decision.message),
    content: !isKnown
      ? verdict(false, undefined, `no upstream is called ${repo.upstream}: 404`)
      : verdict(forbids === undefined, forbids, forbids === undefined ? "served" : `not served: ${forbids}`),
    upstream:
      withheldBy === undefined
        ? verdict(true, undefined, "asked for what is not held")
        : verdict(false, withheldBy, `not asked, so that only what is held is served: ${withheldBy}`),
    ifPrivate: verdict(readsPrivate, privateKey, `${readsPrivate ? "served, too" : "refused"}: ${privateKey}`),
  };
  const asks = action === "fetch" || action === "refresh";
  return {
    allowed:
      parts.address?.allowed !== false &&
      parts.rules.allowed &&
      parts.content.allowed &&
      (!asks || curated?.rules.frozen === undefined) &&
      action !== "push",
    action,
    reference: `${formatRepo(repo)}${written(reference)}`,
    who: whoOf(identity),
    ...parts,
  };
}

function verdict(allowed: boolean, key: string | undefined, message: string): Verdict {
  return { allowed, key, message };
}

function subjectOf(text: string, live: Live): { readonly repo: RepoRef; readonly reference: Reference | undefined } {
  const selection = parseSelection(text, live.routes);
  switch (selection.kind) {
    case "tag":
      return { repo: selection.repo, reference: { kind: "tag", tag: selection.tag } };
    case "digest":
      return { repo: selection.repo, reference: { kind: "digest", digest: selection.digest } };
    case "repository":
      return { repo: selection.repo, reference: undefined };
    case "pattern":
      throw new UpkeepError("a glob is many things: name one image or repository");
  }
}

function addressVerdict(live: Live, address: string): Verdict {
  try {
    live.gate.admit(address);
    return verdict(true, undefined, "let in");
  } catch (error) {
    if (!(error instanceof AccessDeniedError)) {
      throw error;
    }
    return verdict(false, String(error.detail?.key), error.message);
  }
}

function written(reference: Reference | undefined): string {
  return reference === undefined ? "" : `${reference.kind === "tag" ? ":" : "@"}${formatReference(reference)}`;
}

function whoOf({ account, groups, address }: Identity): string {
  const name = account ?? "anonymous";
  const member = groups.length === 0 ? "" : ` of ${groups.join(", ")}`;
  return `${name}${member}${address === undefined ? "" : ` from ${address}`}`;
}

function words(report: Report): string {
  const { allowed, action, reference, who, address, rules, content, upstream, ifPrivate } = report;
  const rows = [
    ["who", who],
    ...(address === undefined ? [] : [["address", address.message]]),
    ["rules", rules.message],
    ["content", content.message],
    ...(action === "push" ? [["push", "not offered: Weir is a cache, and answers 405"]] : []),
    ["upstream", upstream.message],
    ["if private", ifPrivate.message],
  ];
  return `${allowed ? "allowed" : "denied"}: ${action} ${reference}\n${table(
    rows.map(([name = "", text = ""]) => [`  ${name}`, text]),
    new Set(),
  )}`;
}
