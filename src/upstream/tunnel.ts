import http from "node:http";
import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { DeadlineError, withDeadline } from "../base/deadline.ts";
import type { ProxyConfig } from "../config/types.ts";
import { ProxyError } from "./transport-error.ts";

/** A proxy's answer to CONNECT has a handful of headers; its body is never read. */
const MAX_ANSWER_HEADERS = 16 * 1024;

export interface TunnelOptions {
  readonly proxy: ProxyConfig;
  /** What to connect to: `host:port`. */
  readonly authority: string;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/**
 * Asks the proxy at the other end of `socket` for a connection to `authority` (RFC 9110 9.3.6). Resolves when `socket` is
 * that connection; rejects with {@link ProxyError}, and `socket` is gone then. The proxy's credentials are in this request
 * only, and never in what goes through the tunnel.
 */
export async function openTunnel(socket: Duplex, options: TunnelOptions): Promise<void> {
  const { proxy, authority, timeoutMs, clock } = options;
  const { host } = proxy.url;
  const late = withDeadline(new AbortController().signal, timeoutMs, clock);
  const request = http.request({
    method: "CONNECT",
    path: authority,
    setHost: false,
    headers: { host: authority, ...proxyAuthorization(proxy) },
    createConnection: () => socket,
    maxHeaderSize: MAX_ANSWER_HEADERS,
    signal: late.signal,
  });
  try {
    await new Promise<void>((resolve, reject) => {
      // Also for refusals: whatever the status, what follows the headers is not HTTP any more.
      request.once("connect", (response, _socket, head: Buffer) => {
        const status = response.statusCode ?? 0;
        if (status < 200 || status > 299) {
          reject(refusal(host, authority, status));
        } else if (head.length > 0) {
          reject(new ProxyError(`the proxy ${host} sends bytes that nobody asked for`));
        } else {
          resolve();
        }
      });
      request.once("error", (cause) => {
        const why =
          late.signal.aborted && late.signal.reason instanceof DeadlineError ? "does not answer" : "broke off";
        reject(new ProxyError(`the proxy ${host} ${why} when asked for ${authority}`, { cause }));
      });
      request.end();
    });
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    late.clear();
  }
}

/** What a proxy that answers so is told about; for plain HTTP as well. */
export function refusal(proxyHost: string, authority: string, status: number): ProxyError {
  return new ProxyError(
    status === 407
      ? `the proxy ${proxyHost} wants a user name and password, or does not take those that it gets (407)`
      : `the proxy ${proxyHost} answers ${status} when asked for ${authority}`,
  );
}

export function proxyAuthorization({ authorization }: ProxyConfig): Readonly<Record<string, string>> {
  return authorization === undefined ? {} : { "proxy-authorization": authorization.reveal() };
}
