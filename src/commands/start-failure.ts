import type { Config } from "../config/types.ts";
import { formatListen } from "./start-message.ts";

/** What a listener asks of the system; the last is the look-up of its host name. */
const LISTENING: ReadonlySet<string> = new Set(["listen", "bind", "getaddrinfo"]);

/** Why Weir did not start, in a sentence that says what to change. */
export function describeStartFailure(error: unknown, config: Config): string {
  const system = systemError(error);
  if (system === undefined) {
    return error instanceof Error ? error.message : String(error);
  }
  return LISTENING.has(system.syscall) ? describeListenFailure(system, config) : describeFileFailure(system);
}

interface SystemError {
  readonly code: string;
  readonly syscall: string;
  readonly message: string;
  readonly path: string | undefined;
  readonly port: number | undefined;
  readonly hostname: string | undefined;
}

function systemError(error: unknown): SystemError | undefined {
  if (!(error instanceof Error && "code" in error && "syscall" in error)) {
    return undefined;
  }
  return {
    code: String(error.code),
    syscall: String(error.syscall),
    message: error.message,
    path: "path" in error && typeof error.path === "string" ? error.path : undefined,
    port: "port" in error && typeof error.port === "number" ? error.port : undefined,
    hostname: "hostname" in error && typeof error.hostname === "string" ? error.hostname : undefined,
  };
}

function describeListenFailure(error: SystemError, config: Config): string {
  const { host, port } = config.admin.listen;
  const isAdmin = error.hostname === undefined ? error.port === port : error.hostname === host;
  const key = isAdmin ? "admin.listen" : "server.listen";
  const address = formatListen(isAdmin ? config.admin.listen : config.server.listen);
  switch (error.code) {
    case "EADDRINUSE":
      return `${address} is taken by another process; stop that one, or set ${key} to another address`;
    case "EACCES":
      return `this user may not listen on ${address}; set ${key} to a port from 1024 on`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `${address} is not an address of this machine; set ${key} to one that is`;
    default:
      return `cannot listen on ${address} (${key}): ${error.message}`;
  }
}

function describeFileFailure(error: SystemError): string {
  const path = error.path ?? "a file";
  switch (error.code) {
    case "EACCES":
    case "EPERM":
      return `this user may not use ${path}; change its owner or mode, or set storage.filesystem.root to another folder`;
    case "EROFS":
      return `${path} is on a read-only file system; set storage.filesystem.root to a folder that can be written`;
    case "ENOENT":
      return `${path} does not exist`;
    case "ENOTDIR":
    case "EEXIST":
      return `${path} is in the way: a folder is needed there`;
    default:
      return `cannot use ${path}: ${error.message}`;
  }
}
