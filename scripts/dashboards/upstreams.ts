import type { DashboardSpec } from "./panel.ts";
import { countBy, quantileBy, rateBy, UPSTREAMS } from "./queries.ts";

const BY_CREDENTIAL = "{{upstream}} {{credential}}";
const LEFT = `min by (upstream, credential) (weir_upstream_ratelimit_remaining{${UPSTREAMS}})`;
const LIMIT = `max by (upstream, credential) (weir_upstream_ratelimit_limit{${UPSTREAMS}})`;

/** What counts against a pull quota. */
const PULLS_A_DAY = `sum by (upstream) (increase(weir_upstream_requests_total{${UPSTREAMS},kind="manifest",method="GET",code="200"}[1d]))`;

export const upstreams: DashboardSpec = {
  uid: "weir-upstreams",
  title: "Weir / Upstreams",
  description: "How the registries behind Weir are: reachable, willing, in quota, and honest.",
  panels: [
    {
      as: "stat",
      title: "Breakers open",
      description:
        "Origins that are not asked because requests to them keep failing: 1 for a registry or token realm, under blob the number of hosts that blobs come from. What is held is served meanwhile.",
      unit: "short",
      queries: [
        {
          expr: `max by (upstream, origin) (weir_upstream_breaker_open{${UPSTREAMS}})`,
          legend: "{{upstream}} {{origin}}",
        },
      ],
      thresholds: { warn: 1, alarm: 1 },
      runbook: "weirbreakeropen",
    },
    {
      as: "stat",
      title: "Quota left",
      description:
        "What is left of the pull quota, as the upstream said last, by the credential that is used (anonymous: none).",
      unit: "percentunit",
      queries: [{ expr: `${LEFT} / ${LIMIT}`, legend: BY_CREDENTIAL }],
      thresholds: { warn: 0.25, alarm: 0.1, falling: true },
      runbook: "weirquotanearlyspent",
    },
    {
      as: "stat",
      title: "Hours until the quota is spent",
      description:
        "The pulls that are left, at the pace of the last 24 hours (manifest GETs answered 200), as if all went to this credential. The quota's window gives pulls back: below the window's own length is close.",
      unit: "h",
      queries: [{ expr: `${LEFT} / on (upstream) group_left () (${PULLS_A_DAY} / 24)`, legend: BY_CREDENTIAL }],
      thresholds: { warn: 6, alarm: 2, falling: true },
      runbook: "weirquotanearlyspent",
    },
    {
      as: "stat",
      title: "Parked credentials",
      description:
        "1 where the upstream has refused a credential, so that it is not used for a while. Nothing but a correct one ends this.",
      unit: "short",
      queries: [
        {
          expr: `max by (upstream, credential) (weir_upstream_credential_parked{${UPSTREAMS}})`,
          legend: BY_CREDENTIAL,
        },
      ],
      thresholds: { warn: 1, alarm: 1 },
      runbook: "weircredentialrefused",
    },
    {
      as: "stat",
      title: "Credential expires in",
      description:
        "Until the password or token that a credential stands for now ends (ECR, Google). It is renewed long before: a short time means that renewing fails.",
      unit: "s",
      queries: [
        {
          expr: `min by (upstream, credential) (weir_upstream_credential_expiry_timestamp_seconds{${UPSTREAMS}}) - time()`,
          legend: BY_CREDENTIAL,
        },
      ],
      thresholds: { warn: 3600, alarm: 900, falling: true },
      runbook: "weircredentialexpiring",
    },
    {
      as: "stat",
      title: "Digest mismatches",
      description:
        "Blobs in the time shown whose bytes did not hash to their digest. No client got one, but each is worth a look.",
      unit: "short",
      queries: [
        { expr: countBy("upstream", "weir_upstream_digest_mismatches_total", UPSTREAMS), legend: "{{upstream}}" },
      ],
      thresholds: { warn: 1, alarm: 1 },
      runbook: "weirdigestmismatch",
    },
    {
      as: "stat",
      title: "Resumed downloads",
      description:
        "Downloads in the time shown that broke off or stalled and went on at the same place. Clients noticed nothing.",
      unit: "short",
      queries: [{ expr: countBy("upstream", "weir_upstream_resumes_total", UPSTREAMS), legend: "{{upstream}}" }],
      runbook: "slow-answers",
    },
    {
      as: "stat",
      title: "Refused for too many requests",
      description:
        "429 answers of upstreams in the time shown: quota (the allowance is spent) or abuse (too many requests of any kind).",
      unit: "short",
      queries: [
        {
          expr: countBy("upstream, credential, reason", "weir_upstream_ratelimited_total", UPSTREAMS),
          legend: "{{upstream}} {{credential}} {{reason}}",
        },
      ],
      thresholds: { warn: 1, alarm: 10 },
      runbook: "weirquotanearlyspent",
    },
    {
      as: "graph",
      title: "Quota left, pulls",
      description: "What is left and what is allowed in a window.",
      unit: "short",
      queries: [
        { expr: LEFT, legend: `left ${BY_CREDENTIAL}` },
        { expr: LIMIT, legend: `limit ${BY_CREDENTIAL}` },
      ],
      runbook: "weirquotanearlyspent",
    },
    {
      as: "graph",
      title: "Requests to upstreams",
      description: "Everything that was sent: redirects, retries and token requests included.",
      unit: "reqps",
      queries: [
        {
          expr: rateBy("upstream, kind, method", "weir_upstream_requests_total", UPSTREAMS),
          legend: "{{upstream}} {{method}} {{kind}}",
        },
      ],
      runbook: "weirquotanearlyspent",
    },
    {
      as: "graph",
      title: "429 answers",
      description: "Refusals for too many requests, over time.",
      unit: "reqps",
      queries: [
        {
          expr: rateBy("upstream, credential, reason", "weir_upstream_ratelimited_total", UPSTREAMS),
          legend: "{{upstream}} {{credential}} {{reason}}",
        },
      ],
      runbook: "weirquotanearlyspent",
    },
    {
      as: "graph",
      title: "Token requests",
      description:
        "Requests to token servers. refused: 401 or 403, also for what is absent. One serves for minutes: many mean that something throws them away.",
      unit: "reqps",
      queries: [
        {
          expr: rateBy("upstream, result", "weir_upstream_token_requests_total", UPSTREAMS),
          legend: "{{upstream}} {{result}}",
        },
      ],
      runbook: "weircredentialrefused",
    },
    {
      as: "graph",
      title: "Errors by reason",
      description: "Requests that got no answer, or one that could not be used. What is plainly absent does not count.",
      unit: "reqps",
      queries: [
        {
          expr: rateBy("upstream, reason", "weir_upstream_errors_total", UPSTREAMS),
          legend: "{{upstream}} {{reason}}",
        },
      ],
      runbook: "weirbreakeropen",
    },
    {
      as: "graph",
      title: "Answers of upstreams",
      description: "Time from sending a request to the headers of its answer, below which 50 and 99 of 100 are.",
      unit: "s",
      queries: [
        {
          expr: quantileBy(0.5, "upstream", "weir_upstream_request_duration_seconds", UPSTREAMS),
          legend: "p50 {{upstream}}",
        },
        {
          expr: quantileBy(0.99, "upstream", "weir_upstream_request_duration_seconds", UPSTREAMS),
          legend: "p99 {{upstream}}",
        },
      ],
      runbook: "slow-answers",
    },
    {
      as: "graph",
      title: "Bytes from upstreams",
      description: "Bodies received, by upstream and kind.",
      unit: "Bps",
      queries: [
        {
          expr: rateBy("upstream, kind", "weir_upstream_received_bytes_total", UPSTREAMS),
          legend: "{{upstream}} {{kind}}",
        },
      ],
      runbook: "weirnohits",
    },
    {
      as: "graph",
      title: "Stale answers",
      description:
        "Answers that may have been out of date: stale-if-error (upstream in trouble), soft-deadline (slow), gone (not there any more), credential (refused), budget-low (quota spared), withheld (the caller may not have it asked for, or the upstream is frozen).",
      unit: "reqps",
      queries: [
        {
          expr: rateBy("upstream, reason", "weir_stale_served_total", UPSTREAMS),
          legend: "{{upstream}} {{reason}}",
        },
      ],
      runbook: "weirservingstale",
    },
  ],
};
