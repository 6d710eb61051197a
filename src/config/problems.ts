import type { z } from "zod";
import { quote } from "../base/quote.ts";
import type { ConfigProblem } from "./config-error.ts";
import { formatPath, type Path, toPath, valueAt } from "./tree.ts";
import type { IssueParams } from "./values.ts";

/** Values of such keys are never repeated, whatever is wrong with them. */
const SECRET_KEY = /pass|secret|token|credential|private|key$|^auth|^otlpHeaders$/i;

/** User name and password in an address. */
const USERINFO = /\/\/[^/\s]*@/;

/**
 * What the schema says, in sentences: the path, the value as it was written (never what a variable or file put in, never a
 * secret) and what was expected.
 */
export function describeIssue(issue: z.core.$ZodIssue, written: unknown): readonly ConfigProblem[] {
  const path = toPath(issue.path);
  if (issue.code === "unrecognized_keys") {
    const sentences = issue.message.split("\n");
    return issue.keys.map((key, i) => ({ path: formatPath([...path, key]), message: sentences[i] ?? issue.message }));
  }
  const params: IssueParams = issue.code === "custom" ? { ...issue.params } : { expected: expectation(issue) };
  return [
    { path: formatPath(path), message: params.sentence ?? mismatch(params.expected ?? issue.message, path, written) },
  ];
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code === "too_small") {
    return "at least one entry";
  }
  if (issue.code === "invalid_type") {
    return issue.expected === "array" ? "a list" : "a mapping of keys to values";
  }
  return issue.message;
}

function mismatch(expected: string, path: Path, written: unknown): string {
  const value = valueAt(written, path) ?? undefined;
  return value === undefined ? `is missing: expected ${expected}` : `expected ${expected}, got ${show(value, path)}`;
}

function show(value: unknown, path: Path): string {
  const secret = path.some((key) => typeof key === "string" && SECRET_KEY.test(key) && key !== "credentials");
  if (Array.isArray(value)) {
    return value.length === 0 ? "an empty list" : "a list";
  }
  if (typeof value === "object" && value !== null) {
    return "a mapping";
  }
  if (secret) {
    return "something else (not shown)";
  }
  return typeof value === "string" ? quote(value.replace(USERINFO, "//***@")) : String(value);
}
