import { humanTime } from "../../base/human.ts";
import type {
  EndpointOverview,
  FillOverview,
  RecentPull,
  StorageOverview,
  UpstreamOverview,
} from "../../proxy/overview/overview.ts";
import { type Html, html } from "./html.ts";
import {
  ago,
  ahead,
  type Bar,
  badge,
  bar,
  digestText,
  figure,
  nothing,
  pathTo,
  repositoryPath,
  size,
  type Tone,
} from "./parts.ts";
import { pullsTable } from "./pulls-view.ts";

/** What the overview is made of, at one moment. */
export interface Moment {
  readonly upstreams: readonly UpstreamOverview[];
  readonly storage: StorageOverview;
  readonly fills: readonly FillOverview[];
  readonly recent: readonly RecentPull[];
  readonly nowMs: number;
}

/** Pulls that the overview lists; their page has more. */
const LISTED_PULLS = 12;

/** Quotas of which less is left are pointed out. */
const LOW_SHARE = 0.1;

/** Parts of the overview by the id of their element: each is sent anew when it has changed. */
export function liveParts(moment: Moment): ReadonlyMap<string, Html> {
  return new Map([
    ["summary", summary(moment)],
    ["fills", fills(moment)],
    ["upstreams", upstreams(moment)],
    ["storage", storage(moment)],
    ["recent", recent(moment)],
  ]);
}

export function overviewView(moment: Moment): Html {
  const parts = liveParts(moment);
  const part = (id: string): Html | undefined => parts.get(id);
  return html`<div class="title"><h1>Overview</h1><p class="live" id="live" role="status" hidden></p></div>
<div id="summary" class="tiles">${part("summary")}</div>
<section aria-labelledby="upstreams-title"><h2 id="upstreams-title">Upstreams</h2><div id="upstreams">${part("upstreams")}</div></section>
<section aria-labelledby="fills-title"><h2 id="fills-title">Downloads under way</h2><div id="fills">${part("fills")}</div></section>
<section aria-labelledby="storage-title"><h2 id="storage-title">Storage</h2><div id="storage">${part("storage")}</div></section>
<section aria-labelledby="recent-title"><h2 id="recent-title">Recent pulls</h2><div id="recent">${part("recent")}</div>
<p><a class="button" href="/page/pulls">All recent pulls</a></p></section>`;
}

function summary({ upstreams, storage, fills, recent, nowMs }: Moment): Html {
  const troubled = upstreams.filter((upstream) => healthOf(upstream, nowMs).tone === "bad").length;
  const answered = recent.filter(({ running, kind }) => !running && (kind === "manifest" || kind === "blob"));
  const own = answered.filter(({ cache }) => cache === "hit" || cache === "revalidated" || cache === "stale").length;
  const limit = storage.limitBytes;
  const tiles: readonly (readonly [name: string, value: string, more: string, tone?: Tone])[] = [
    [
      "Upstreams",
      troubled === 0 ? "all answer" : `${troubled} in trouble`,
      `of ${figure(upstreams.length)}`,
      troubled === 0 ? "plain" : "bad",
    ],
    ["Held", size(storage.bytes), limit === undefined ? "without a limit" : `of ${size(limit)}`],
    ["Downloads", figure(fills.length), reading(fills.reduce((sum, { readers }) => sum + readers, 0))],
    [
      "From storage",
      answered.length === 0 ? "–" : `${Math.round((own / answered.length) * 100)} %`,
      `of the last ${figure(answered.length)} pulls`,
    ],
  ];
  return html`<dl>${tiles.map(
    ([name, value, more, tone]) =>
      html`<div class="tile ${tone}"><dt>${name}</dt><dd><strong>${value}</strong> <span>${more}</span></dd></div>\n`,
  )}</dl>`;
}

interface Health {
  readonly tone: Tone;
  readonly text: string;
}

/** The worst of what is known of an upstream. */
function healthOf({ endpoints, quotas, credentials }: UpstreamOverview, nowMs: number): Health {
  const breakers = endpoints.flatMap(({ breakers }) => breakers);
  if (endpoints.length > 0 && endpoints.every(({ breaker }) => breaker !== "closed")) {
    return { tone: "bad", text: "not answering" };
  }
  if (quotas.some(({ closedUntilMs }) => closedUntilMs !== undefined && closedUntilMs > nowMs)) {
    return { tone: "bad", text: "quota spent" };
  }
  if (credentials.length > 0 && credentials.every(({ parkedUntilMs }) => parkedUntilMs !== undefined)) {
    return { tone: "bad", text: "credential refused" };
  }
  if (endpoints.some(({ breaker }) => breaker !== "closed") || breakers.some(({ open }) => open)) {
    return { tone: "warn", text: "partly in trouble" };
  }
  if (credentials.some(({ parkedUntilMs }) => parkedUntilMs !== undefined)) {
    return { tone: "warn", text: "a credential is refused" };
  }
  return quotas.some((quota) => (shareOf(quota) ?? 1) < LOW_SHARE)
    ? { tone: "warn", text: "quota low" }
    : { tone: "good", text: "healthy" };
}

function upstreams({ upstreams, nowMs }: Moment): Html {
  return upstreams.length === 0
    ? nothing("No upstream is configured.")
    : html`<ul class="cards">${upstreams.map((upstream) => html`<li class="card">${upstreamCard(upstream, nowMs)}</li>\n`)}</ul>`;
}

function upstreamCard(upstream: UpstreamOverview, nowMs: number): Html {
  const { name, type, dynamic, endpoints, credentials, quotas, lastError, held } = upstream;
  const health = healthOf(upstream, nowMs);
  return html`<div class="card-head"><h3><a href="${pathTo("/page/held", { upstream: name })}">${name}</a></h3>${badge(health.tone, health.text)}</div>
<p class="dim">${type}${dynamic && ", on demand"} · ${figure(held.repositories)} ${held.repositories === 1 ? "repository" : "repositories"} · ${size(held.bytes)}</p>
${endpoints.map((endpoint) => endpointLine(endpoint, nowMs))}
${credentials.length > 0 && html`<p class="line">${credentials.length === 1 ? "Credential" : "Credentials"} ${credentials.map(({ label }) => label).join(", ")}</p>`}
${credentials.map((credential) => credentialLine(credential, nowMs))}
${quotas.map((quota) => quotaLine(name, quota, nowMs))}
${
  lastError &&
  html`<p class="line last-error">Last error ${ago(lastError.atMs, nowMs)}: <strong>${lastError.reason}</strong><span class="why">${lastError.text}</span></p>`
}`;
}

/** What there is to say of a credential; most do their work. */
function credentialLine(
  { label, parkedUntilMs, expiresAtMs, lastError }: UpstreamOverview["credentials"][number],
  nowMs: number,
): Html | undefined {
  if (parkedUntilMs !== undefined) {
    return html`<p class="line">${badge("bad", `${label} is refused`)} not used for ${ahead(parkedUntilMs, nowMs)} more<span class="why">${lastError}</span></p>`;
  }
  if (lastError !== undefined) {
    return html`<p class="line">${badge("warn", `${label} cannot be used`)}<span class="why">${lastError}</span></p>`;
  }
  return expiresAtMs === undefined
    ? undefined
    : html`<p class="line dim">${label} is good for ${ahead(expiresAtMs, nowMs)}</p>`;
}

function endpointLine({ origin, breaker, retryAtMs, breakers }: EndpointOverview, nowMs: number): Html {
  const beyond = breakers.filter(({ open, origin: at }) => open && at !== origin);
  return html`<p class="line"><code>${origin}</code>${breaker === "open" && html` ${badge("bad", "breaker open")} ${retryAtMs === undefined ? "the next request tries it" : html`tried again in ${ahead(retryAtMs, nowMs)}`}`}${
    breaker === "half-open" && html` ${badge("warn", "breaker half open")} the next request tries it`
  }</p>${beyond.map(
    ({ origin: at, role, untilMs, reason }) =>
      html`<p class="line"><code>${at}</code> ${badge("warn", `${role}: breaker open`)} ${reason}${untilMs !== undefined && html`, tried again in ${ahead(untilMs, nowMs)}`}</p>`,
  )}`;
}

type Quota = UpstreamOverview["quotas"][number];

function shareOf({ limit, remaining }: Quota): number | undefined {
  return limit === undefined || remaining === undefined || limit <= 0 ? undefined : remaining / limit;
}

function quotaLine(upstream: string, quota: Quota, nowMs: number): Html {
  const { credential, source, limit, remaining, windowS, observedAtMs, closedUntilMs } = quota;
  const share = shareOf(quota);
  const isClosed = closedUntilMs !== undefined && closedUntilMs > nowMs;
  const who = credential ?? "anonymous";
  const window = windowS === undefined ? "" : ` in ${humanTime(windowS * 1000)}`;
  const left =
    remaining === undefined
      ? "quota not told"
      : `${figure(remaining)} of ${limit === undefined ? "?" : figure(limit)} left${window}`;
  const look: Bar = {
    label: `Quota of ${who} at ${upstream}: ${left}`,
    share,
    tone: isClosed || share === 0 ? "bad" : share !== undefined && share < LOW_SHARE ? "warn" : "good",
  };
  return html`<div class="quota"><p class="line"><span>${who}${source !== undefined && html` <span class="dim">(${source})</span>`}</span> <span>${left}</span></p>${share !== undefined && bar(look)}${
    isClosed && html`<p class="line">${badge("bad", "spent")} not asked for ${ahead(closedUntilMs, nowMs)} more</p>`
  }${observedAtMs !== undefined && html`<p class="line dim">told ${ago(observedAtMs, nowMs)}</p>`}</div>`;
}

function fills({ fills, nowMs }: Moment): Html {
  return fills.length === 0
    ? nothing("Nothing is being downloaded.")
    : html`<ul class="rows">${fills.map((fill) => html`<li>${fillRow(fill, nowMs)}</li>\n`)}</ul>`;
}

function fillRow(
  { digest, upstream, repository, receivedBytes, sizeBytes, readers, startedAtMs }: FillOverview,
  nowMs: number,
): Html {
  const tookMs = Math.max(1, nowMs - startedAtMs);
  const rate = (receivedBytes / tookMs) * 1000;
  const share = sizeBytes === undefined ? undefined : sizeBytes === 0 ? 1 : receivedBytes / sizeBytes;
  const leftMs = sizeBytes === undefined || rate === 0 ? undefined : ((sizeBytes - receivedBytes) / rate) * 1000;
  const received = sizeBytes === undefined ? size(receivedBytes) : `${size(receivedBytes)} of ${size(sizeBytes)}`;
  return html`<div class="split"><a href="${repositoryPath(upstream, repository)}">${upstream}/${repository}</a> ${digestText(digest)}</div>
${bar({ label: `Download for ${upstream}/${repository}: ${received}`, share, tone: "notice" })}
<p class="split dim"><span>${received}${share !== undefined && ` (${Math.floor(share * 100)} %)`}</span><span>${size(rate)}/s${leftMs !== undefined && `, about ${humanTime(leftMs)} left`}</span><span>${reading(readers)}</span></p>`;
}

function reading(readers: number): string {
  return readers === 1 ? "1 client reads along" : `${figure(readers)} clients read along`;
}

const DRIVERS = { filesystem: "a folder", s3: "a bucket", tiered: "a disk in front of a bucket" } as const;

function storage({ storage }: Moment): Html {
  const { driver, bytes, blobs, limitBytes, highBytes, lowBytes, counted, waitingUploads } = storage;
  const held = `${counted ? "" : "at least "}${size(bytes)}`;
  const share = limitBytes === undefined || limitBytes === 0 ? undefined : bytes / limitBytes;
  const isHigh = highBytes !== undefined && bytes >= highBytes;
  const marks = [lowBytes, highBytes].flatMap((at) => (at === undefined || !limitBytes ? [] : [at / limitBytes]));
  const text =
    limitBytes === undefined ? `${held}, and no limit is set (storage.maxSize)` : `${held} of ${size(limitBytes)}`;
  return html`<div class="card"><p class="split"><strong>${text}</strong><span class="dim">${counted ? "" : "at least "}${figure(blobs)} blobs in ${DRIVERS[driver]}</span></p>
${share !== undefined && bar({ label: `Storage: ${text}`, share, tone: isHigh ? "warn" : "good", marks })}
${
  limitBytes !== undefined &&
  highBytes !== undefined &&
  lowBytes !== undefined &&
  html`<p class="dim">Above ${size(highBytes)} what was used least recently goes, down to ${size(lowBytes)}.</p>`
}
${!counted && html`<p class="dim">What is held is still being counted.</p>`}
${waitingUploads !== undefined && waitingUploads > 0 && html`<p>${badge("notice", "uploading")} ${figure(waitingUploads)} ${waitingUploads === 1 ? "blob waits" : "blobs wait"} to be sent to the bucket.</p>`}</div>`;
}

function recent({ recent, nowMs }: Moment): Html {
  return pullsTable("Recent pulls, the latest first", recent.slice(0, LISTED_PULLS), nowMs);
}
