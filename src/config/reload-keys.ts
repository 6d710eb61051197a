import { fingerprint } from "../base/fingerprint.ts";
import type { Config, RedisConfig, StateConfig } from "./types.ts";

/** The keys, as the file has them, that only a start puts in force: listeners, folders, and bounds of what is running. */
const FIXED: Readonly<Record<string, (config: Config) => unknown>> = {
  "server.listen": ({ server }) => server.listen,
  "server.publicUrl": ({ server }) => server.publicUrl,
  "server.workers": ({ server }) => server.workers,
  "server.tls.cert": ({ server }) => server.tls?.certFile,
  "server.tls.key": ({ server }) => server.tls?.keyFile,
  "server.tls.clientCa": ({ server }) => server.tls?.clientCaFile,
  "server.trustedProxies": ({ server }) => server.trustedProxies,
  "server.accelRedirect": ({ server }) => server.accelRedirect,
  "admin.listen": ({ admin }) => admin.listen,
  "admin.allow": ({ admin }) => admin.allow,
  "admin.token": ({ admin }) => admin.token,
  "download.rangeWait": ({ download }) => download.rangeWaitMs,
  "download.minRate": ({ download }) => download.minRate,
  "download.stalledAttempts": ({ download }) => download.stalledAttempts,
  "download.abandon": ({ download }) => download.abandon,
  "storage.driver": ({ storage }) => storage.driver,
  "storage.filesystem.root": ({ storage }) => storage.filesystem.root,
  "storage.filesystem.shared": ({ storage }) => storage.filesystem.shared,
  "storage.spool.dir": ({ storage }) => storage.spool.dir,
  "storage.s3.bucket": ({ storage }) => storage.s3?.bucket,
  "storage.s3.region": ({ storage }) => storage.s3?.region,
  "storage.s3.endpoint": ({ storage }) => storage.s3?.endpoint,
  "storage.s3.publicEndpoint": ({ storage }) => storage.s3?.publicEndpoint,
  "storage.s3.prefix": ({ storage }) => storage.s3?.prefix,
  "storage.s3.forcePathStyle": ({ storage }) => storage.s3?.forcePathStyle,
  "storage.s3.accessKeyId": ({ storage }) => storage.s3?.credentials?.accessKeyId,
  "storage.s3.secretAccessKey": ({ storage }) => storage.s3?.credentials?.secretAccessKey,
  "storage.s3.sessionToken": ({ storage }) => storage.s3?.credentials?.sessionToken,
  "storage.s3.serverSideEncryption": ({ storage }) => storage.s3?.serverSideEncryption,
  "storage.s3.kmsKeyId": ({ storage }) => storage.s3?.kmsKeyId,
  "storage.s3.storageClass": ({ storage }) => storage.s3?.storageClass,
  "storage.s3.redirect": ({ storage }) => storage.s3?.redirect,
  "storage.s3.redirectExcept": ({ storage }) => storage.s3?.redirectExcept,
  "storage.s3.maxConnections": ({ storage }) => storage.s3?.maxConnections,
  "storage.s3.timeouts.connect": ({ storage }) => storage.s3?.timeouts.connectMs,
  "storage.s3.timeouts.idle": ({ storage }) => storage.s3?.timeouts.idleMs,
  "cluster.listen": ({ cluster }) => cluster?.listen,
  "cluster.advertise": ({ cluster }) => cluster?.advertise,
  "cluster.secret": ({ cluster }) => cluster?.secret,
  "state.driver": ({ state }) => state.driver,
  "state.redis.url": ({ state }) => redisOf(state)?.at,
  "state.redis.nodes": ({ state }) => redisOf(state)?.at,
  "state.redis.sentinel": ({ state }) => redisOf(state)?.at,
  "state.redis.cluster": ({ state }) => redisOf(state)?.at,
  "state.redis.username": ({ state }) => redisOf(state)?.username,
  "state.redis.password": ({ state }) => redisOf(state)?.password,
  "state.redis.tls.ca": ({ state }) => redisOf(state)?.tls?.ca,
  "state.redis.tls.cert": ({ state }) => redisOf(state)?.tls?.cert,
  "state.redis.tls.key": ({ state }) => redisOf(state)?.tls?.key,
  "state.redis.prefix": ({ state }) => redisOf(state)?.prefix,
  "limits.manifestSize": ({ limits }) => limits.manifestSize,
  "limits.requestHeaders": ({ limits }) => limits.requestHeaders,
  "limits.responseHeaders": ({ limits }) => limits.responseHeaders,
  "limits.connections": ({ limits }) => limits.connections,
  "limits.connectionsPerClient": ({ limits }) => limits.connectionsPerClient,
  "telemetry.otlpEndpoint": ({ telemetry }) => telemetry.traces?.endpoint,
  "telemetry.otlpHeaders": ({ telemetry }) => telemetry.traces?.headers,
  "telemetry.sampleRatio": ({ telemetry }) => telemetry.traces?.sampleRatio,
  "shutdown.grace": ({ shutdown }) => shutdown.graceMs,
};

/** The keys whose value differs although it can change at a start only (design section 7); all others are live. */
export function keysNeedingRestart(before: Config, after: Config): readonly string[] {
  return Object.entries(FIXED)
    .filter(([, valueIn]) => fingerprint(valueIn(before)) !== fingerprint(valueIn(after)))
    .map(([key]) => key);
}

function redisOf(state: StateConfig): RedisConfig | undefined {
  return state.driver === "redis" ? state.redis : undefined;
}
