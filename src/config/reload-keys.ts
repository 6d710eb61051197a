import { fingerprint } from "../base/fingerprint.ts";
import type { Config } from "./types.ts";

/** The keys, as the file has them, that only a start puts in force: listeners, folders, and bounds of what is running. */
const FIXED: Readonly<Record<string, (config: Config) => unknown>> = {
  "server.listen": ({ server }) => server.listen,
  "server.publicUrl": ({ server }) => server.publicUrl,
  "server.tls.cert": ({ server }) => server.tls?.certFile,
  "server.tls.key": ({ server }) => server.tls?.keyFile,
  "admin.listen": ({ admin }) => admin.listen,
  "download.rangeWait": ({ download }) => download.rangeWaitMs,
  "download.minRate": ({ download }) => download.minRate,
  "download.stalledAttempts": ({ download }) => download.stalledAttempts,
  "download.abandon": ({ download }) => download.abandon,
  "storage.driver": ({ storage }) => storage.driver,
  "storage.filesystem.root": ({ storage }) => storage.filesystem.root,
  "storage.spool.dir": ({ storage }) => storage.spool.dir,
  "limits.manifestSize": ({ limits }) => limits.manifestSize,
  "limits.requestHeaders": ({ limits }) => limits.requestHeaders,
  "limits.responseHeaders": ({ limits }) => limits.responseHeaders,
  "shutdown.grace": ({ shutdown }) => shutdown.graceMs,
};

/** The keys whose value differs although it can change at a start only (design section 7); all others are live. */
export function keysNeedingRestart(before: Config, after: Config): readonly string[] {
  return Object.entries(FIXED)
    .filter(([, valueIn]) => fingerprint(valueIn(before)) !== fingerprint(valueIn(after)))
    .map(([key]) => key);
}
