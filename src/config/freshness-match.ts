import { runInNewContext } from "node:vm";
import { compileGlob } from "../base/glob.ts";
import { quote } from "../base/quote.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { FreshnessConfig } from "./types.ts";

/** Plenty for a rule over tags, and a bound on what a regular expression can hide. */
const MAX_REGEX_LENGTH = 200;

/** The distribution spec's limit; a longer one is no tag and matches no expression. */
const MAX_TAG_LENGTH = 128;

/** What a well-behaved expression needs for all the probes is a millisecond; the rest is for a machine that is busy. */
const PROBE_TIMEOUT_MS = 1000;

/** One time-out may be the machine's; two are the expression's. */
const PROBE_ATTEMPTS = 2;

const TIMED_OUT = "ERR_SCRIPT_EXECUTION_TIMEOUT";

/** With so many repetitions one behind the other a tag costs some 100,000 steps at worst. */
const HARMLESS_REPETITIONS = 3;

/** How long a tag is fresh, and by which rule: its `match` as written, or `default`. */
export interface Ttl {
  readonly ttlMs: number;
  readonly rule: string;
}

/** The rules of a freshness section, ready to be asked; first match wins (design section 7). */
export interface Freshness {
  ttlMs(repo: RepoRef, tag: string): Ttl;
}

export function compileFreshness(config: FreshnessConfig): Freshness {
  const rules = config.rules.map((rule) => ({
    matches: compileMatch(rule.match),
    ttl: { ttlMs: rule.ttlMs, rule: rule.match },
  }));
  const fallback: Ttl = { ttlMs: config.defaultMs, rule: "default" };
  return {
    ttlMs: (repo, tag) => rules.find((rule) => rule.matches(repo, tag))?.ttl ?? fallback,
  };
}

/**
 * Compiles `<upstream>/<repository>:<tag>`: globs in which `**` crosses `/`; the tag part may be a `/regex/` that must match
 * the whole tag.
 *
 * @throws Error with a sentence for the operator
 */
export function compileMatch(match: string): (repo: RepoRef, tag: string) => boolean {
  const parts = split(match);
  const matchesName = compileGlob(parts.name);
  const matchesTag = parts.regex === undefined ? compileGlob(parts.tag) : compileRegex(parts.regex);
  return (repo, tag) => matchesTag(tag) && matchesName(formatRepo(repo));
}

interface MatchParts {
  readonly name: string;
  readonly tag: string;
  /** The tag part's regular expression, if it is one. */
  readonly regex: string | undefined;
}

function split(match: string): MatchParts {
  const regexAt = match.indexOf(":/");
  if (regexAt !== -1 && match.endsWith("/") && match.length > regexAt + 3) {
    return { name: match.slice(0, regexAt), tag: "", regex: match.slice(regexAt + 2, -1) };
  }
  // Not the colon of a port, which has a slash behind it.
  const colon = match.lastIndexOf(":");
  if (colon < 1 || colon === match.length - 1 || match.indexOf("/", colon) !== -1) {
    throw new Error(
      `${quote(match)} has no tag part: expected <upstream>/<repository>:<tag>, such as **:latest or quay.io/**:*`,
    );
  }
  return { name: match.slice(0, colon), tag: match.slice(colon + 1), regex: undefined };
}

function compileRegex(source: string): (tag: string) => boolean {
  if (source.length > MAX_REGEX_LENGTH) {
    throw new Error(`the regular expression has ${source.length} characters, of ${MAX_REGEX_LENGTH} at most`);
  }
  const regex = parseRegex(source);
  return (tag) => tag.length <= MAX_TAG_LENGTH && regex.test(tag);
}

function parseRegex(source: string): RegExp {
  try {
    // By itself first: an unbalanced group could otherwise close the one around it.
    new RegExp(source, "u");
    return new RegExp(`^(?:${source})$`, "u");
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`not a regular expression: ${reason}`, { cause });
  }
}

/**
 * Tries the tag part on the tags that make careless expressions, such as `(a+)+`, take for ever: clients choose the tags,
 * and one bad expression would stop everything.
 *
 * @throws Error with a sentence for the operator
 */
export function probeMatch(match: string): void {
  const { regex } = split(match);
  if (regex === undefined || isHarmless(regex)) {
    return;
  }
  const { source } = parseRegex(regex);
  for (let attempt = 1; !finishes(source); attempt += 1) {
    if (attempt === PROBE_ATTEMPTS) {
      throw new Error(
        `the regular expression /${regex}/ takes too long on some tags; write it with fewer repetitions, and none inside of another`,
      );
    }
  }
}

/** No repeated group, and few repetitions. Escaped characters are counted as well, which only means a probe too many. */
function isHarmless(regex: string): boolean {
  return !/\)[*+{]/.test(regex) && regex.replace(/[^*+{]/g, "").length <= HARMLESS_REPETITIONS;
}

function finishes(source: string): boolean {
  const script = "for (const tag of tags) { new RegExp(source, 'u').test(tag); }";
  try {
    runInNewContext(script, { source, tags: probeTags() }, { timeout: PROBE_TIMEOUT_MS });
    return true;
  } catch (error) {
    // Of the script's own world, where `Error` is another class.
    if (typeof error === "object" && error !== null && "code" in error && error.code === TIMED_OUT) {
      return false;
    }
    throw error;
  }
}

/** The longest runs of what tags are made of, each ended by something that makes a match fail late. */
function probeTags(): string[] {
  const runs = ["a", "A", "0", "_", ".", "-", "a0", "0a", "a.", "0.", "a-", "0-", "v1.", "rc1"];
  const ends = ["", "a", "Z", "0", "_", ".", "-"];
  return runs.flatMap((run) =>
    ends.map((end) => run.repeat(MAX_TAG_LENGTH).slice(0, MAX_TAG_LENGTH - end.length) + end),
  );
}
