import type { DashboardSpec } from "./panel.ts";
import { CONTENT, count, HELD, PROCESSES, quantileBy, rate, rateBy, UPSTREAMS } from "./queries.ts";

const REQUESTS = "weir_http_requests_total";
const SENT = "weir_http_response_bytes_total";
const RECEIVED = "weir_upstream_received_bytes_total";
const ANSWERED = `${UPSTREAMS},${CONTENT},cache!="none"`;

export const overview: DashboardSpec = {
  uid: "weir-overview",
  title: "Weir / Overview",
  description: "Whether clients get what they ask for, how fast, and how much of it without asking upstreams.",
  panels: [
    {
      as: "stat",
      title: "Hit ratio by requests",
      description:
        "Of the manifests and blobs asked for in the time shown, those that needed no download: held, being downloaded already, confirmed by a HEAD, stale, or known to be absent.",
      unit: "percentunit",
      queries: [
        {
          expr: `${count(REQUESTS, `${ANSWERED},${HELD}`)} / ${count(REQUESTS, ANSWERED)}`,
          legend: "hit ratio",
        },
      ],
      thresholds: { warn: 0.5, alarm: 0.1, falling: true },
      runbook: "weirnohits",
    },
    {
      as: "stat",
      title: "Hit ratio by bytes",
      description:
        "Of the bytes of manifests and blobs that clients took in the time shown, those that needed no download.",
      unit: "percentunit",
      queries: [{ expr: `${count(SENT, `${ANSWERED},${HELD}`)} / ${count(SENT, ANSWERED)}`, legend: "hit ratio" }],
      thresholds: { warn: 0.5, alarm: 0.1, falling: true },
      runbook: "weirnohits",
    },
    {
      as: "stat",
      title: "Upstream bytes saved",
      description:
        "Bytes of manifests and blobs that clients took in the time shown, less those received from upstreams. Below 0 where more was downloaded than taken, as after clients that left early.",
      unit: "bytes",
      queries: [
        {
          expr: `${count(SENT, `${UPSTREAMS},${CONTENT}`)} - ${count(RECEIVED, `${UPSTREAMS},${CONTENT}`)}`,
          legend: "saved",
        },
      ],
      runbook: "weirnohits",
    },
    {
      as: "stat",
      title: "Error ratio",
      description: "Of all requests in the time shown, those answered with a 5xx status.",
      unit: "percentunit",
      queries: [
        {
          expr: `(${count(REQUESTS, `${UPSTREAMS},code=~"5.."`)} or vector(0)) / ${count(REQUESTS, UPSTREAMS)}`,
          legend: "errors",
        },
      ],
      thresholds: { warn: 0.01, alarm: 0.05 },
      runbook: "weirerrorratio",
    },
    {
      as: "graph",
      title: "Requests by outcome",
      description:
        "How requests were answered. miss: downloaded for this one; collapsed: shared another's download; revalidated: a HEAD upstream confirmed it; stale: may be out of date; negative: known to be absent; bypass: passed through; none: nothing to hold.",
      unit: "reqps",
      queries: [{ expr: rateBy("cache", REQUESTS, UPSTREAMS), legend: "{{cache}}" }],
      runbook: "weirnohits",
    },
    {
      as: "graph",
      title: "Errors by status",
      description: "Answers with 4xx and 5xx. 499: the client left before there was an answer. 404 is daily life.",
      unit: "reqps",
      queries: [{ expr: rateBy("kind, code", REQUESTS, `${UPSTREAMS},code=~"[45].."`), legend: "{{code}} {{kind}}" }],
      runbook: "weirerrorratio",
    },
    {
      as: "graph",
      title: "Hit ratio",
      description: "As above, over time: by requests and by bytes.",
      unit: "percentunit",
      queries: [
        { expr: `${rate(REQUESTS, `${ANSWERED},${HELD}`)} / ${rate(REQUESTS, ANSWERED)}`, legend: "by requests" },
        { expr: `${rate(SENT, `${ANSWERED},${HELD}`)} / ${rate(SENT, ANSWERED)}`, legend: "by bytes" },
      ],
      runbook: "weirnohits",
    },
    {
      as: "graph",
      title: "Bytes",
      description:
        "Bodies that clients took, and bodies received from upstreams. The distance between the two is what the cache saves.",
      unit: "Bps",
      queries: [
        { expr: rate(SENT, UPSTREAMS), legend: "to clients" },
        { expr: rate(RECEIVED, UPSTREAMS), legend: "from upstreams" },
      ],
      runbook: "weirnohits",
    },
    {
      as: "graph",
      title: "First byte by outcome",
      description:
        "Time to the first byte of the answer, below which 50 and 99 of 100 requests are. A hit takes milliseconds; a miss takes what the upstream takes.",
      unit: "s",
      queries: [
        { expr: quantileBy(0.5, "cache", "weir_http_first_byte_seconds", UPSTREAMS), legend: "p50 {{cache}}" },
        { expr: quantileBy(0.99, "cache", "weir_http_first_byte_seconds", UPSTREAMS), legend: "p99 {{cache}}" },
      ],
      runbook: "slow-answers",
    },
    {
      as: "graph",
      title: "Total time by outcome",
      description: "Time to the last byte of the answer. For blobs this is mostly the client's own speed.",
      unit: "s",
      queries: [
        { expr: quantileBy(0.5, "cache", "weir_http_request_duration_seconds", UPSTREAMS), legend: "p50 {{cache}}" },
        { expr: quantileBy(0.99, "cache", "weir_http_request_duration_seconds", UPSTREAMS), legend: "p99 {{cache}}" },
      ],
      runbook: "slow-answers",
    },
    {
      as: "graph",
      title: "Refused requests",
      description:
        "401, 403 and 429 by reason: address (access.allow and deny, admin.allow), rule (access.rules), grant (the client's token grants less), content, platform and frozen (the upstream's allow and deny, platforms, frozen), private (not public at its registry), budget (access.fetchBudget).",
      unit: "reqps",
      queries: [{ expr: rateBy("reason", "weir_access_denied_total", PROCESSES), legend: "{{reason}}" }],
      runbook: "weirfetchbudgetspent",
    },
    {
      as: "graph",
      title: "Failed sign-ins",
      description:
        "Requests with a password or token that is wrong; those that came with none, or with a token that has run out, do not count. A client with an old password makes a steady line; somebody who guesses makes a wall.",
      unit: "reqps",
      queries: [{ expr: rate("weir_auth_failures_total", PROCESSES), legend: "failed" }],
      runbook: "weirsigninsfail",
    },
    {
      as: "graph",
      title: "Connections of clients",
      description: "Open connections; limits.connections is how many each process may have.",
      unit: "short",
      queries: [{ expr: `sum by (instance) (weir_http_connections{${PROCESSES}})`, legend: "{{instance}}" }],
      runbook: "weirconnectionsrefused",
    },
    {
      as: "graph",
      title: "Connections ended",
      description:
        "Connections that were not taken, or ended, by reason: connections and connections-per-client (limits of these names), slow-request, large-headers, malformed, stalled (the client took nothing of its answer). Those who scan networks make a few of the latter.",
      unit: "cps",
      queries: [{ expr: rateBy("reason", "weir_http_connections_ended_total", PROCESSES), legend: "{{reason}}" }],
      runbook: "weirconnectionsrefused",
    },
    {
      as: "graph",
      title: "Configuration in force",
      description: "1 while the configuration as it stands in the file is in force, 0 since it was refused.",
      unit: "short",
      queries: [{ expr: `min by (instance) (weir_config_reload_success{${PROCESSES}})`, legend: "{{instance}}" }],
      thresholds: { warn: 1, alarm: 1, falling: true },
      runbook: "weirconfigurationrefused",
    },
  ],
};
