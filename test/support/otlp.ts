/** A collector: takes traces by OTLP over HTTP, as protocol buffers, and reads them for itself. */
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { decodeTraces, type OtlpResource, type OtlpSpan } from "./otlp-decode.ts";
import { until } from "./processes.ts";
import { recorder } from "./recorder/recorder.ts";

export type { OtlpSpan } from "./otlp-decode.ts";

export interface Collector {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** The headers of each request. */
  readonly requests: readonly http.IncomingHttpHeaders[];
  /** In the order of arrival. */
  readonly spans: readonly OtlpSpan[];
  readonly resources: readonly OtlpResource[];
  /** What it answers from now on; undefined never answers. */
  status: number | undefined;
  /** Resolves when a span is there, or fails. */
  awaits(what: string, found: (span: OtlpSpan) => boolean): Promise<OtlpSpan>;
}

export async function startCollector(stack: AsyncDisposableStack): Promise<Collector> {
  const requests: http.IncomingHttpHeaders[] = [];
  const spans: OtlpSpan[] = [];
  const resources: OtlpResource[] = [];
  const server = http.createServer(async (req, res) => {
    const body = await buffer(req);
    requests.push(req.headers);
    if (req.method !== "POST" || req.url !== "/v1/traces" || req.headers["content-type"] !== "application/x-protobuf") {
      res.writeHead(400).end();
      return;
    }
    const traces = decodeTraces(body);
    recorder.exported(JSON.stringify(traces, (_, value) => (typeof value === "bigint" ? String(value) : value)));
    if (collector.status === undefined) return;
    if (collector.status === 200) {
      spans.push(...traces.flatMap((each) => each.spans));
      resources.push(...traces.map((each) => each.resource));
    }
    res.writeHead(collector.status, { "content-type": "application/x-protobuf" }).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const collector: Collector = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    spans,
    resources,
    status: 200,
    async awaits(what, found) {
      await until(what, () => spans.some(found));
      const [span] = spans.filter(found);
      if (span === undefined) throw new Error(`${what} has gone`);
      return span;
    },
  };
  return collector;
}

/** The spans of one trace as indented lines, each below its parent and in the order in which they began. */
export function treeOf(
  spans: readonly OtlpSpan[],
  traceId: string,
  line: (span: OtlpSpan) => string | undefined = (span) => span.name,
): readonly string[] {
  const own = spans.filter((span) => span.traceId === traceId);
  const ids = new Set(own.map(({ spanId }) => spanId));
  const below = (parent: OtlpSpan | undefined, depth: number): readonly string[] =>
    own
      .filter(({ parentSpanId }) => (parent === undefined ? !ids.has(parentSpanId) : parentSpanId === parent.spanId))
      .toSorted((a, b) => Number(a.startNs - b.startNs))
      .flatMap((span) => {
        const text = line(span);
        return text === undefined ? [] : [`${"  ".repeat(depth)}${text}`, ...below(span, depth + 1)];
      });
  return below(undefined, 0);
}
