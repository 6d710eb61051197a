/** Stands between Weir and an S3 server, counts what is asked, and does to it what networks and servers do. */
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";

export type S3Operation =
  | "HeadObject"
  | "GetObject"
  | "PutObject"
  | "DeleteObject"
  | "ListObjects"
  | "CreateMultipartUpload"
  | "UploadPart"
  | "CompleteMultipartUpload"
  | "AbortMultipartUpload"
  | "ListMultipartUploads";

/** A request as it came. */
export interface S3Request {
  readonly operation: S3Operation;
  /** With the prefix. */
  readonly key: string;
  readonly part: number | undefined;
  readonly range: string | undefined;
}

/** What is done to a request. */
export type S3Fault =
  /** Answered with an error that the server has never heard of. */
  | { readonly status: number; readonly code: string; readonly date?: string; readonly detail?: string }
  /** Never answered. */
  | "hang"
  /** The connection is reset before anything is asked. */
  | "reset"
  /** The server does it, and the connection is reset in the place of its answer. */
  | "lose-answer"
  /** So many bytes of the answer's body come through before the connection is reset. */
  | { readonly resetAfter: number }
  /** So many bytes of the answer's body come through, and then nothing. */
  | { readonly stallAfter: number };

export const INTERNAL_ERROR: S3Fault = { status: 500, code: "InternalError" };
export const SLOW_DOWN: S3Fault = { status: 503, code: "SlowDown" };
export const DENIED: S3Fault = { status: 403, code: "AccessDenied" };

export interface S3Proxy {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  readonly requests: readonly S3Request[];
  /** Requests whose answers are not over. */
  readonly open: number;
  /**
   * What the server's clock is ahead by: what is written from now on was written that much later. To be turned for a test that
   * cannot wait.
   */
  aheadMs: number;
  /** Asked for each request; undefined lets it through. */
  fault: (request: S3Request) => S3Fault | undefined;
  count(operation: S3Operation): number;
}

/** Stopped with `stack`. */
export async function startS3Proxy(stack: AsyncDisposableStack, to: string): Promise<S3Proxy> {
  const requests: S3Request[] = [];
  let open = 0;
  /** What the server's clock was ahead by when the key was written. */
  const writtenAhead = new Map<string, number>();
  const server = createServer((req, res) => {
    const asked = read(req);
    if (WRITES.has(asked.operation)) writtenAhead.set(asked.key, proxy.aheadMs);
    requests.push(asked);
    open += 1;
    res.once("close", () => {
      open -= 1;
    });
    const fault = proxy.fault(asked);
    // Whatever breaks here was broken on purpose.
    for (const stream of [req, res]) stream.on("error", () => {});
    const later = (key: string): number => writtenAhead.get(key) ?? 0;
    void handle(new URL(to), req, res, { fault, asked, later }).catch(() => res.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const proxy: S3Proxy = {
    endpoint: `http://127.0.0.1:${address.port}`,
    requests,
    get open() {
      return open;
    },
    fault: () => undefined,
    aheadMs: 0,
    count: (operation) => requests.filter((asked) => asked.operation === operation).length,
  };
  return proxy;
}

/** Does something to the first `times` requests that fit. */
export function firstOf(
  times: number,
  fits: (request: S3Request) => boolean,
  fault: S3Fault,
): (request: S3Request) => S3Fault | undefined {
  let left = times;
  return (asked) => {
    if (left === 0 || !fits(asked)) return undefined;
    left -= 1;
    return fault;
  };
}

const WRITES: ReadonlySet<S3Operation> = new Set(["PutObject", "CompleteMultipartUpload"]);

async function handle(
  to: URL,
  req: IncomingMessage,
  res: ServerResponse,
  { fault, asked, later }: { fault: S3Fault | undefined; asked: S3Request; later: (key: string) => number },
): Promise<void> {
  if (fault === "hang") {
    req.resume();
    return;
  }
  if (fault === "reset") {
    req.socket.resetAndDestroy();
    return;
  }
  if (typeof fault === "object" && "status" in fault) {
    req.resume();
    await once(req, "end");
    const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${fault.code}</Code><Message>${fault.code}</Message>${fault.detail ?? ""}</Error>`;
    res.writeHead(fault.status, {
      "Content-Type": "application/xml",
      "Content-Length": Buffer.byteLength(body),
      ...(fault.date === undefined ? {} : { Date: fault.date }),
    });
    res.end(req.method === "HEAD" ? undefined : body);
    return;
  }
  const { method, url, headers } = req;
  const onward = request({ host: to.hostname, port: to.port, method, path: url, headers });
  onward.on("error", () => res.destroy());
  req.pipe(onward);
  const [answer] = (await once(onward, "response")) as [IncomingMessage];
  answer.on("error", () => {});
  if (fault === "lose-answer") {
    answer.resume();
    await once(answer, "end");
    req.socket.resetAndDestroy();
    return;
  }
  const modified = answer.headers["last-modified"];
  if (modified !== undefined) {
    answer.headers["last-modified"] = new Date(Date.parse(modified) + later(asked.key)).toUTCString();
  }
  res.writeHead(answer.statusCode ?? 502, answer.headers);
  if (fault === undefined && asked.operation === "ListObjects") {
    res.end(listedLater(Buffer.concat(await answer.toArray()).toString(), later));
    return;
  }
  if (fault === undefined) {
    answer.pipe(res);
    return;
  }
  const most = "resetAfter" in fault ? fault.resetAfter : fault.stallAfter;
  let passed = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    const part = chunk.subarray(0, most - passed);
    passed += part.length;
    if (part.length > 0) await new Promise((resolve) => res.write(part, resolve));
    if (passed === most) break;
  }
  if ("resetAfter" in fault) req.socket.resetAndDestroy();
}

/** As long as before: the head has gone out. */
function listedLater(xml: string, later: (key: string) => number): string {
  return xml.replace(
    /<Key>([^<]*)<\/Key><LastModified>([^<]*)</g,
    (_, key: string, at: string) =>
      `<Key>${key}</Key><LastModified>${new Date(Date.parse(at) + later(key)).toISOString()}<`,
  );
}

function read(req: IncomingMessage): S3Request {
  const { pathname, searchParams: query } = new URL(req.url ?? "/", "http://s3");
  const [, , ...names] = pathname.split("/").map(decodeURIComponent);
  const part = query.get("partNumber");
  return {
    operation: operationOf(req.method ?? "", names.join("/") !== "", query),
    key: names.join("/"),
    part: part === null ? undefined : Number(part),
    range: req.headers.range,
  };
}

function operationOf(method: string, hasKey: boolean, query: URLSearchParams): S3Operation {
  if (!hasKey) return query.has("uploads") ? "ListMultipartUploads" : "ListObjects";
  switch (method) {
    case "HEAD":
      return "HeadObject";
    case "GET":
      return "GetObject";
    case "PUT":
      return query.has("partNumber") ? "UploadPart" : "PutObject";
    case "DELETE":
      return query.has("uploadId") ? "AbortMultipartUpload" : "DeleteObject";
    case "POST":
      return query.has("uploadId") ? "CompleteMultipartUpload" : "CreateMultipartUpload";
    default:
      throw new Error(`${method} is no request of Weir's`);
  }
}
