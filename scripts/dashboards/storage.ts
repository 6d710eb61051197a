import type { DashboardSpec } from "./panel.ts";
import { countBy, PROCESSES, quantileBy, rate, rateBy } from "./queries.ts";

const BYTES = `max by (instance) (weir_storage_bytes{${PROCESSES}})`;
const LIMIT = `max by (instance) (weir_storage_limit_bytes{${PROCESSES}})`;
const BUCKET = `max by (instance) (weir_storage_bucket_bytes{${PROCESSES}})`;
const BUCKET_LIMIT = `max by (instance) (weir_storage_bucket_limit_bytes{${PROCESSES}})`;

export const storage: DashboardSpec = {
  uid: "weir-storage",
  title: "Weir / Storage and fleet",
  description: "What is held and what goes, what is arriving, and how disk, bucket, Redis and the other processes are.",
  panels: [
    {
      as: "stat",
      title: "Storage used",
      description:
        "What is held, of storage.maxSize. Blobs are deleted from storage.highWater (95 %) down to lowWater (85 %), so that 85 to 95 % is where a busy cache lives.",
      unit: "percentunit",
      queries: [{ expr: `${BYTES} / ${LIMIT}`, legend: "{{instance}}" }],
      thresholds: { warn: 0.96, alarm: 0.98 },
      runbook: "weirstoragenearlyfull",
    },
    {
      as: "stat",
      title: "Blobs held",
      description: "Manifests among them.",
      unit: "short",
      queries: [{ expr: `max by (instance) (weir_storage_blobs{${PROCESSES}})`, legend: "{{instance}}" }],
      runbook: "weirstoragenearlyfull",
    },
    {
      as: "stat",
      title: "Workers",
      description: "Processes that answer clients, by instance: server.workers where all is well.",
      unit: "short",
      queries: [{ expr: `sum by (instance) (weir_workers{${PROCESSES}})`, legend: "{{instance}}" }],
      thresholds: { warn: 1, alarm: 1, falling: true },
      runbook: "weirrestarting",
    },
    {
      as: "stat",
      title: "Workers that ended",
      description: "Worker processes in the time shown that ended and were replaced.",
      unit: "short",
      queries: [{ expr: countBy("instance", "weir_workers_ended_total", PROCESSES), legend: "{{instance}}" }],
      thresholds: { warn: 1, alarm: 3 },
      runbook: "weirrestarting",
    },
    {
      as: "graph",
      title: "Size against limit",
      description: "Bytes on disk of what is held, and storage.maxSize (no line without a limit).",
      unit: "bytes",
      queries: [
        { expr: BYTES, legend: "held {{instance}}" },
        { expr: LIMIT, legend: "limit {{instance}}" },
      ],
      runbook: "weirstoragenearlyfull",
    },
    {
      as: "graph",
      title: "Evictions by reason",
      description:
        "Bytes given back: room (least recently used), upstream-cap (its upstream's maxSize), age (storage.maxAge), unreferenced, emergency (the disk was full, whatever maxSize says), bucket (from the bucket behind a disk).",
      unit: "Bps",
      queries: [{ expr: rateBy("reason", "weir_storage_evicted_bytes_total", PROCESSES), legend: "{{reason}}" }],
      runbook: "weirdiskfull",
    },
    {
      as: "graph",
      title: "Downloads under way",
      description: "Blobs that are being downloaded now, and clients that read them as they arrive.",
      unit: "short",
      queries: [
        { expr: `sum(weir_fills_in_flight{${PROCESSES}})`, legend: "downloads" },
        { expr: `sum(weir_fill_readers{${PROCESSES}})`, legend: "readers" },
      ],
      runbook: "slow-answers",
    },
    {
      as: "graph",
      title: "Storage errors",
      description:
        "What the disk or bucket could not do, by operation. Clients get their blobs from upstreams all the same.",
      unit: "ops",
      queries: [{ expr: rateBy("op", "weir_storage_errors_total", PROCESSES), legend: "{{op}}" }],
      runbook: "weirstoragetrouble",
    },
    {
      as: "graph",
      title: "Storage operations",
      description: "What the disk or bucket was asked to do. A held tag is answered from memory.",
      unit: "ops",
      queries: [{ expr: rateBy("op", "weir_storage_operation_duration_seconds_count", PROCESSES), legend: "{{op}}" }],
      runbook: "weirstoragetrouble",
    },
    {
      as: "graph",
      title: "Storage latency",
      description:
        "Time that the disk or bucket took, below which 99 of 100 operations are. A disk takes milliseconds, a bucket tens of them.",
      unit: "s",
      queries: [
        {
          expr: quantileBy(0.99, "op", "weir_storage_operation_duration_seconds", PROCESSES),
          legend: "p99 {{op}}",
        },
      ],
      runbook: "weirstoragetrouble",
    },
    {
      as: "graph",
      title: "Waiting for the bucket",
      description:
        "Bytes of blobs that are on the disk and wait to be sent to S3 (storage.driver tiered). A line that only grows means that the bucket is slower than the pulls, or does not take anything.",
      unit: "bytes",
      queries: [{ expr: `max by (instance) (weir_storage_upload_queue_bytes{${PROCESSES}})`, legend: "{{instance}}" }],
      runbook: "weirstoragetrouble",
    },
    {
      as: "graph",
      title: "Bucket against limit",
      description:
        "Bytes of the blobs in the bucket behind the disk (storage.driver tiered), as whoever looks after it has counted them, and storage.s3.maxSize (no line without a limit). With the driver s3 the bucket is in the panels above.",
      unit: "bytes",
      queries: [
        { expr: BUCKET, legend: "held {{instance}}" },
        { expr: BUCKET_LIMIT, legend: "limit {{instance}}" },
      ],
      runbook: "weirbucketnearlyfull",
    },
    {
      as: "graph",
      title: "Redis errors",
      description:
        "Questions to Redis that failed or were not answered in 250 ms. Nothing is lost by it; upstreams are asked more often.",
      unit: "ops",
      queries: [{ expr: rate("weir_state_errors_total", PROCESSES), legend: "errors" }],
      runbook: "weirredistrouble",
    },
    {
      as: "graph",
      title: "Redis latency",
      description: "Time that Redis took for an answer, below which 50 and 99 of 100 are.",
      unit: "s",
      queries: [
        {
          expr: quantileBy(0.5, "instance", "weir_state_operation_duration_seconds", PROCESSES),
          legend: "p50 {{instance}}",
        },
        {
          expr: quantileBy(0.99, "instance", "weir_state_operation_duration_seconds", PROCESSES),
          legend: "p99 {{instance}}",
        },
      ],
      runbook: "weirredistrouble",
    },
    {
      as: "graph",
      title: "Streams between processes",
      description:
        "Blobs that one process reads from another while they arrive. served and taken are good; broken and lost are resumed; unknown: it had ended just then; starting: the upstream had not answered yet; refused: not signed with cluster.secret.",
      unit: "ops",
      queries: [{ expr: rateBy("result", "weir_peer_streams_total", PROCESSES), legend: "{{result}}" }],
      runbook: "weirredistrouble",
    },
  ],
};
