import type { ListenAddress, ServerConfig } from "../../config/types.ts";
import { SetupError } from "./setup-error.ts";

/** Listening there means every address of the machine, none of which is known. */
const EVERYWHERE: ReadonlySet<string> = new Set(["0.0.0.0", "::"]);

/** An address for clients as a person types it; undefined unless it is http(s)://host[:port]. */
export function parseBaseUrl(text: string): URL | undefined {
  return /^https?:\/\/[^/?#@\\\s]+\/?$/i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
}

/**
 * Where clients reach the cache, as far as the server's own settings tell.
 *
 * @param reachedAs a host name or address, without port, by which the asker has just reached this machine
 * @throws SetupError where they do not
 */
export function serverUrl(server: ServerConfig, reachedAs: string | undefined): URL {
  if (server.publicUrl !== undefined) {
    return server.publicUrl;
  }
  const { listen } = server;
  if (listen.port === 0) {
    throw new SetupError(
      "server.listen picks a free port at each start, so clients cannot be told one: give --url or set server.publicUrl",
    );
  }
  const host = EVERYWHERE.has(listen.host) ? reachedAs : bracketed(listen);
  if (host === undefined) {
    throw new SetupError(
      `server.listen is every address of this machine (${bracketed(listen)}:${listen.port}), and clients need one: give --url or set server.publicUrl`,
    );
  }
  return new URL(`${server.tls === undefined ? "http" : "https"}://${host}:${listen.port}`);
}

/** True for an address that leads to Weir only from the machine that it runs on. */
export function isLoopback(url: URL): boolean {
  const host = url.hostname.replace(/\.$/, "");
  return host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127\./.test(host);
}

function bracketed({ host }: ListenAddress): string {
  return host.includes(":") ? `[${host}]` : host;
}
