import type { Config, ServerConfig } from "../../config/types.ts";
import { serverUrl } from "./base-url.ts";
import { createMirror, type Mirror } from "./mirror.ts";

/** What the operators' port has to know to hand out client configuration. */
export interface SetupSource {
  /** The configuration in force. */
  config(): Pick<Config, "routing" | "upstreams">;
  /** The server's settings, with the port that it really listens on. */
  server(): ServerConfig;
}

/**
 * The cache as somebody is told of it who has reached this machine as `reachedAs` (a host without port).
 *
 * @throws SetupError where there is nothing to tell
 */
export function mirrorOf(
  source: SetupSource,
  options: { readonly reachedAs: string | undefined; readonly only: boolean },
): Mirror {
  return createMirror(source.config(), serverUrl(source.server(), options.reachedAs), options);
}
