import { type Attributes, SpanKind, type SpanStatus, SpanStatusCode } from "@opentelemetry/api";
import { printable } from "../base/printable.ts";
import type { StepFields } from "../base/trail.ts";
import type { AccessLine, RequestEnd, RequestKind } from "../http/observer.ts";

/** Characters of a text in an attribute; longer ones are cut. Paths of requests are the longest that mean something. */
const MAX_TEXT = 1024;

/** What a span says of itself. Names and attributes follow OpenTelemetry's conventions for HTTP where there are some. */
export interface SpanWords {
  readonly name: string;
  readonly kind: SpanKind;
  readonly attributes: Attributes;
}

/** As the conventions have it: with parameters in the place of what differs from request to request. */
const ROUTES: Readonly<Record<RequestKind, string | undefined>> = {
  manifest: "/v2/{name}/manifests/{reference}",
  blob: "/v2/{name}/blobs/{digest}",
  tags: "/v2/{name}/tags/list",
  referrers: "/v2/{name}/referrers/{digest}",
  catalog: "/v2/_catalog",
  base: "/v2/",
  other: undefined,
};

/** A method is a client's word, and names of spans are to be few. */
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** Fields that the conventions have a name for, or whose own is not in their style. */
const NAMES: Readonly<Record<string, string>> = {
  status: "http.response.status_code",
  bytes: "http.response.body.size",
  answeredMs: "weir.answered_ms",
};

/** Steps that are told in one go and make a span all the same. */
const INSTANT_SPANS: ReadonlySet<string> = new Set(["decision"]);

export function isInstantSpan(step: string): boolean {
  return INSTANT_SPANS.has(step);
}

/** Of a step that begins. */
export function stepWords(step: string, fields: StepFields): SpanWords {
  switch (step) {
    case "exchange":
      return { name: `${fields.method} ${fields.kind}`, kind: SpanKind.CLIENT, attributes: exchangeAttributes(fields) };
    case "peer-stream":
      return { name: "GET peer blob", kind: SpanKind.CLIENT, attributes: peerAttributes(fields) };
    case "peer-asked":
      return { name: "GET peer blob", kind: SpanKind.SERVER, attributes: peerAttributes(fields) };
    case "storage":
      return { name: `storage ${fields.op}`, kind: SpanKind.INTERNAL, attributes: stepAttributes(fields) };
    default:
      return { name: step, kind: SpanKind.INTERNAL, attributes: stepAttributes(fields) };
  }
}

/** Of what is learnt of a step. */
export function stepAttributes(fields: StepFields): Attributes {
  const attributes: Attributes = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined)
      attributes[NAMES[name] ?? `weir.${name}`] = typeof value === "string" ? shown(value) : value;
  }
  return attributes;
}

/** What `error.type` says of a step that came to this; undefined where it has not failed. */
export function failureOf({ status, fault, outcome, result, broken }: StepFields): string | undefined {
  if (typeof status === "number" && status >= 400) return String(status);
  if (fault !== undefined) return String(fault);
  if (outcome === "failed" || result === "lost") return String(outcome ?? result);
  return broken === true ? "broken" : undefined;
}

/** Of a request at the front, once it is over. */
export function requestWords(end: RequestEnd): Omit<SpanWords, "kind"> & { readonly status: SpanStatus } {
  const { line, form, cache, scheme, httpVersion } = end;
  const known = METHODS.has(line.method);
  const route = ROUTES[line.kind];
  const name = known ? line.method : "HTTP";
  const failure = requestFailure(end);
  const attributes: Attributes = {
    "http.request.method": known ? line.method : "_OTHER",
    "url.scheme": scheme,
    "url.path": shown(line.path),
    "network.protocol.version": httpVersion,
    "http.response.body.size": line.bytes,
    "weir.cache": line.cache,
  };
  const present = (name: string, value: string | number | undefined): void => {
    if (value !== undefined) attributes[name] = typeof value === "string" ? shown(value) : value;
  };
  present("http.request.method_original", known ? undefined : line.method);
  present("http.route", route);
  present("http.response.status_code", answered(line) ? line.status : undefined);
  present("user_agent.original", line.userAgent);
  present("client.address", line.client);
  present("error.type", failure);
  present("weir.upstream", line.upstream);
  present("weir.repository", line.repository);
  present("weir.reference", line.reference);
  present("weir.form", form);
  present("weir.cache_detail", cache.detail);
  return {
    name: route === undefined ? name : `${name} ${route}`,
    attributes,
    status: failure === undefined ? { code: SpanStatusCode.UNSET } : { code: SpanStatusCode.ERROR },
  };
}

/** What the client asks wrong is no failure of the server (conventions for HTTP spans, "Status"). */
function requestFailure({ line, error }: RequestEnd): string | undefined {
  if (line.status >= 500) return error?.code ?? String(line.status);
  if (line.aborted === true) return line.err === undefined ? "client_left" : (error?.code ?? "broken");
  return undefined;
}

/** A client that left at once was sent no status. */
function answered({ status }: AccessLine): boolean {
  return status !== 499;
}

function exchangeAttributes({ method, url, range, hop, kind, upstream }: StepFields): Attributes {
  const { hostname, port, protocol } = new URL(String(url));
  return {
    "http.request.method": String(method),
    "url.full": shown(String(url)),
    "server.address": hostname,
    "server.port": port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
    "weir.upstream": shown(String(upstream)),
    "weir.kind": String(kind),
    ...(range === undefined ? {} : { "http.request.header.range": [String(range)] }),
    ...(Number(hop) > 0 ? { "http.request.resend_count": Number(hop) } : {}),
  };
}

function peerAttributes({ peer, digest, start }: StepFields): Attributes {
  const at = String(peer).lastIndexOf(":");
  return {
    "http.request.method": "GET",
    "weir.start": Number(start),
    ...(digest === undefined ? {} : { "weir.digest": shown(String(digest)) }),
    ...(peer === undefined
      ? {}
      : { "server.address": String(peer).slice(0, at), "server.port": Number(String(peer).slice(at + 1)) }),
  };
}

function shown(text: string): string {
  return printable(text, MAX_TEXT);
}
