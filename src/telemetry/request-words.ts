import { humanBytes, humanTime } from "../base/human.ts";
import { printable } from "../base/printable.ts";
import type { RequestReport, RequestStep } from "../proxy/explain/request-report.ts";

/** No line needs more; what clients and upstreams say is cut there. */
const MAX_LINE = 700;

const FORMS = {
  "virtual-host": "by the virtual host that was asked",
  ns: "by ns, which a mirror's client sends",
  prefix: "by the registry's name in the path",
  default: "to routing.default, since the request names no upstream",
} as const;

const OUTCOMES: Readonly<Record<string, string>> = {
  hit: "from storage, without asking",
  miss: "fetched from the upstream",
  collapsed: "joined what another request was fetching",
  revalidated: "from storage, after the upstream had been asked",
  stale: "from storage, though it may be out of date",
  negative: "the upstream's absence of it was remembered",
  bypass: "passed through beside the download",
  none: "neither from storage nor from an upstream",
};

/** What became of the requests with one id, for people. Pure. */
export function requestWords(requestId: string, requests: readonly RequestReport[], nowMs: number): readonly string[] {
  if (requests.length === 0) {
    return [`no request ${printable(requestId, 64)} is remembered: only the latest ones are, until the next start`];
  }
  return requests.flatMap((request, i) => [...(i === 0 ? [] : [""]), ...wordsOf(request, nowMs)]);
}

function wordsOf(request: RequestReport, nowMs: number): readonly string[] {
  const { requestId, startedAtMs, running, line, form, cache, error, steps, stepsDropped } = request;
  const lines: (readonly [string, string])[] = [["request", `${requestId}, ${humanTime(nowMs - startedAtMs)} ago`]];
  if (line.path !== undefined) {
    const address = line.client === undefined ? "" : ` by ${line.client}`;
    const client = line.account === undefined ? address : `${address} (signed in as ${line.account})`;
    lines.push(["asked", `${line.method} ${line.path}${line.ns === undefined ? "" : `?ns=${line.ns}`}${client}`]);
  }
  if (form !== undefined && line.upstream !== undefined) {
    lines.push(["route", `${subjectOf(line)}, ${FORMS[form]}`]);
  }
  if (running) {
    lines.push(["answer", "not yet: it is under way"]);
  } else {
    lines.push(["answer", answerText(request)]);
    lines.push(["cache", cacheText(cache)]);
    if (cache.warning !== undefined) lines.push(["warning", String(cache.warning)]);
    if (error !== undefined) lines.push(["error", `${error.code}: ${error.message}`]);
  }
  lines.push(...steps.map((step, i) => [i === 0 ? "steps" : "", stepText(step)] as const));
  if (stepsDropped > 0) lines.push(["", `and ${stepsDropped} more, which are not kept`]);
  return lines.map(([about, text]) => printable(`${about.padEnd(9)}${text}`, MAX_LINE));
}

/** `docker.io/library/nginx:1.27`. */
function subjectOf({ upstream, repository, reference }: RequestReport["line"]): string {
  const name = repository === undefined ? String(upstream) : `${upstream}/${repository}`;
  return reference === undefined ? name : `${name}${String(reference).includes(":") ? "@" : ":"}${reference}`;
}

function answerText({ line }: RequestReport): string {
  const { status, bytes, firstByteMs, totalMs, aborted } = line;
  const first = firstByteMs === undefined ? "no byte was sent" : `first byte after ${ms(firstByteMs)}`;
  const left = aborted === true ? "; it was broken off before its end" : "";
  return `${status}, ${humanBytes(Number(bytes ?? 0))} in ${ms(totalMs)}, ${first}${left}`;
}

function cacheText({ outcome, detail, ttlS, fwdStatus, stored }: RequestReport["cache"]): string {
  const more = [
    detail === undefined ? [] : [String(detail)],
    fwdStatus === undefined ? [] : [`the upstream answered ${fwdStatus}`],
    ttlS === undefined ? [] : [`fresh for ${humanTime(Number(ttlS) * 1000)} more`],
    stored === false ? ["not kept"] : [],
  ].flat();
  const name = String(outcome);
  return `${name}: ${OUTCOMES[name] ?? name}${more.length === 0 ? "" : ` (${more.join("; ")})`}`;
}

function stepText({ step, atMs, tookMs, fields }: RequestStep): string {
  const took = tookMs === undefined ? "" : ` in ${ms(tookMs)}`;
  return `+${ms(atMs)} ${TEXTS[step]?.(fields, took) ?? `${step}${took}: ${JSON.stringify(fields)}`}`;
}

type Fields = RequestStep["fields"];

const TEXTS: Readonly<Record<string, (fields: Fields, took: string) => string>> = {
  decision: ({ about, does, reason, why }) =>
    `decided for ${about}: ${does}${reason === undefined ? "" : ` (${reason})`}, since ${why}`,
  exchange({ method, url, range, hop, status, fault, bytes, kind, answeredMs }, took) {
    const ranged = range === undefined ? "" : ` ${range}`;
    const redirected = hop === 0 ? "" : `, redirect ${hop}`;
    const answer = status ?? (took === "" ? "no answer yet" : "no answer");
    const failure = fault === undefined ? "" : ` (${fault})`;
    const after = answeredMs === undefined ? took : ` in ${ms(answeredMs)}`;
    const body = bytes === undefined ? "" : `, ${humanBytes(Number(bytes))}`;
    return `asked ${method} ${url}${ranged} [${kind}${redirected}]: ${answer}${failure}${after}${body}`;
  },
  joined: ({ about }) => `waited for the answer to another request's question about ${about}`,
  fill({ digest, started, position, size, outcome }, took) {
    const of = size === undefined ? "" : ` of ${humanBytes(Number(size))}`;
    const how =
      started === true ? "started the download of" : `joined, at ${humanBytes(Number(position))}${of}, the download of`;
    return `${how} ${digest}: ${outcome ?? "goes on"}${took}`;
  },
  lease: ({ name, outcome }, took) => `turn to ask (${name}): ${outcome ?? "waiting for another process"}${took}`,
  peer: ({ name, peer, start }) =>
    `read from ${peer === undefined ? "storage" : `the process at ${peer}`} (${name}), from byte ${start} on`,
  visibility: ({ about, visibility }) => `asked without a credential: ${about} is ${visibility}`,
};

function ms(value: unknown): string {
  const number = Number(value ?? 0);
  return number >= 10_000 ? humanTime(number) : `${Math.round(number * 10) / 10} ms`;
}
