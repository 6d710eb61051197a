import http from "node:http";
import { createInterface } from "node:readline";
import type { Secret } from "../base/secret.ts";
import type { ListenAddress } from "../config/types.ts";
import { type Upkeep, UpkeepError } from "../proxy/upkeep/upkeep.ts";
import { ControlError } from "./control-error.ts";
import { formatListen, reachable } from "./start-message.ts";

export interface RemoteServer {
  readonly admin: ListenAddress;
  readonly token: Secret;
  /** What to call it in messages, such as `process 7 on host-1`. */
  readonly who: string;
}

/** More than any answer that is not streamed. */
const MAX_ERROR_BYTES = 64 * 1024;

/** A running server's upkeep, over its admin listener. Rejects with {@link ControlError} where that cannot be. */
export function createRemoteUpkeep(server: RemoteServer): Upkeep {
  const post = (name: string, { signal, ...question }: { readonly signal: AbortSignal }): AsyncIterable<never> =>
    ask(server, { method: "POST", path: `/control/${name}`, body: JSON.stringify(question), signal });
  const get = (path: string, signal: AbortSignal): AsyncIterable<never> =>
    ask(server, { method: "GET", path, body: "", signal });
  return {
    explain: ({ signal, reference }) => get(`/explain.json?ref=${encodeURIComponent(reference)}`, signal),
    explainRequest: ({ signal, requestId }) => get(`/explain.json?request=${encodeURIComponent(requestId)}`, signal),
    gc: (o) => post("gc", o),
    verify: ({ signal, bytesPerS }) =>
      post("verify", { signal, ...(bytesPerS === undefined ? {} : { rate: bytesPerS }) }),
    purge: (o) => post("purge", o),
    refresh: (o) => post("refresh", o),
    import: (o) => post("import", o),
    pin: (o) => post("pin", o),
    unpin: (o) => post("unpin", o),
    pins: ({ signal }) => get("/control/pins", signal),
    stats: ({ signal, repositories }) => get(`/control/stats?repositories=${repositories}`, signal),
  };
}

interface Question {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body: string;
  readonly signal: AbortSignal;
}

/** Lines of JSON, each taken for what the server of the same version says it is. */
async function* ask(server: RemoteServer, question: Question): AsyncIterable<never> {
  const response = await send(server, question);
  if (response.statusCode !== 200) {
    throw await refusal(server, response);
  }
  let done = false;
  try {
    for await (const line of createInterface({ input: response, crlfDelay: Number.POSITIVE_INFINITY })) {
      const event: unknown = JSON.parse(line);
      if (typeof event !== "object" || event === null) {
        throw new ControlError(`the server (${server.who}) answers something that is not understood`);
      }
      if ("error" in event) {
        throw new ControlError(`the server (${server.who}) has failed: ${String(event.error)}`);
      }
      done = "done" in event;
      yield event as never;
    }
  } catch (error) {
    if (error instanceof ControlError || question.signal.aborted) {
      throw error;
    }
    throw new ControlError(`the server (${server.who}) broke off: ${messageOf(error)}`, { cause: error });
  } finally {
    response.destroy();
  }
  if (!done) {
    throw new ControlError(`the server (${server.who}) broke off before it was done`);
  }
}

async function send(server: RemoteServer, { method, path, body, signal }: Question): Promise<http.IncomingMessage> {
  const { host, port } = reachable(server.admin);
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  const request = http.request({
    host,
    port,
    method,
    path,
    headers: {
      authorization: `Bearer ${server.token.reveal()}`,
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    },
    signal,
    agent: false,
  });
  request.once("response", resolve);
  request.once("error", reject);
  request.end(body);
  try {
    return await promise;
  } catch (error) {
    const address = formatListen({ host, port });
    const code = error instanceof Error && "code" in error ? String(error.code) : messageOf(error);
    throw new ControlError(
      `the server that has the storage (${server.who}) cannot be reached at ${address} (${code}): run this on its machine or in its container, or stop it`,
      { cause: error },
    );
  }
}

async function refusal(server: RemoteServer, response: http.IncomingMessage): Promise<Error> {
  const message = await errorMessage(response);
  switch (response.statusCode) {
    case 400:
      return new UpkeepError(message);
    case 401:
    case 403:
      return new ControlError(
        `the server (${server.who}) refuses this command: ${message}; give it the same admin.token as the server has`,
      );
    default:
      return new ControlError(`the server (${server.who}) answers ${response.statusCode}: ${message}`);
  }
}

/** The first message of the error envelope. */
async function errorMessage(response: http.IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) {
    text += String(chunk);
    if (text.length > MAX_ERROR_BYTES) {
      break;
    }
  }
  try {
    const { errors } = JSON.parse(text) as { readonly errors: readonly { readonly message: string }[] };
    return String(errors[0]?.message);
  } catch {
    return "it does not say why";
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
