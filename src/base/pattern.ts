import { runInNewContext } from "node:vm";
import { compileGlob } from "./glob.ts";

/** Plenty for a rule over tags, and a bound on what a regular expression can hide. */
const MAX_REGEX_LENGTH = 200;

/** The distribution spec's limit for tags; a longer text matches no regular expression. */
const MAX_TEXT_LENGTH = 128;

/** What a well-behaved expression needs for all the probes is a millisecond; the rest is for a machine that is busy. */
const PROBE_TIMEOUT_MS = 1000;

/** One time-out may be the machine's; two are the expression's. */
const PROBE_ATTEMPTS = 2;

const TIMED_OUT = "ERR_SCRIPT_EXECUTION_TIMEOUT";

/** With so many repetitions one behind the other a text costs some 100,000 steps at worst. */
const HARMLESS_REPETITIONS = 3;

/**
 * Compiles a pattern for tags and the like: a glob, or a `/regex/` that must match the whole text.
 *
 * @throws Error with a sentence for the operator
 */
export function compilePattern(pattern: string): (text: string) => boolean {
  const source = regexSource(pattern);
  return source === undefined ? compileGlob(pattern) : compileRegex(source);
}

/**
 * Tries a `/regex/` on the texts that make careless expressions, such as `(a+)+`, take for ever: clients choose the tags,
 * and one bad expression would stop everything.
 *
 * @throws Error with a sentence for the operator
 */
export function probePattern(pattern: string): void {
  const regex = regexSource(pattern);
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

/** What stands between the slashes; undefined for a glob, which has none at both ends. */
function regexSource(pattern: string): string | undefined {
  return pattern.length > 2 && pattern.startsWith("/") && pattern.endsWith("/") ? pattern.slice(1, -1) : undefined;
}

function compileRegex(source: string): (text: string) => boolean {
  if (source.length > MAX_REGEX_LENGTH) {
    throw new Error(`the regular expression has ${source.length} characters, of ${MAX_REGEX_LENGTH} at most`);
  }
  const regex = parseRegex(source);
  return (text) => text.length <= MAX_TEXT_LENGTH && regex.test(text);
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

/** No repeated group, and few repetitions. Escaped characters are counted as well, which only means a probe too many. */
function isHarmless(regex: string): boolean {
  return !/\)[*+{]/.test(regex) && regex.replace(/[^*+{]/g, "").length <= HARMLESS_REPETITIONS;
}

function finishes(source: string): boolean {
  const script = "for (const text of texts) { new RegExp(source, 'u').test(text); }";
  try {
    runInNewContext(script, { source, texts: probeTexts() }, { timeout: PROBE_TIMEOUT_MS });
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
function probeTexts(): string[] {
  const runs = ["a", "A", "0", "_", ".", "-", "a0", "0a", "a.", "0.", "a-", "0-", "v1.", "rc1"];
  const ends = ["", "a", "Z", "0", "_", ".", "-"];
  return runs.flatMap((run) =>
    ends.map((end) => run.repeat(MAX_TEXT_LENGTH).slice(0, MAX_TEXT_LENGTH - end.length) + end),
  );
}
