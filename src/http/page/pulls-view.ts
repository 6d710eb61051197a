import type { RecentPull } from "../../proxy/overview/overview.ts";
import { type Html, type HtmlValue, html } from "./html.ts";
import { ago, badge, digestText, duration, nothing, pathTo, size, type Tone, table } from "./parts.ts";

/** How an answer came to be, by `Cache-Status`; what is not here is plain. */
const TONES: Readonly<Record<string, Tone>> = {
  hit: "good",
  revalidated: "good",
  collapsed: "good",
  miss: "notice",
  stale: "warn",
};

export function pullsView(pulls: readonly RecentPull[], nowMs: number): Html {
  return html`<h1>Recent pulls</h1>
<p>What clients asked for of late, the latest first. Each leads to what was done for it.</p>
${pullsTable("Recent pulls, the latest first", pulls, nowMs)}`;
}

export function pullsTable(caption: string, pulls: readonly RecentPull[], nowMs: number): Html {
  return pulls.length === 0
    ? nothing("No client has asked for anything since the start.")
    : table<RecentPull>(
        caption,
        [
          { name: "Asked for", cell: subject },
          { name: "Outcome", cell: outcome },
          { name: "Size", cell: ({ bytes }) => size(bytes), kind: "figure" },
          { name: "First byte", cell: ({ firstByteMs }) => duration(firstByteMs), kind: "figure" },
          { name: "Time", cell: ({ totalMs }) => duration(totalMs), kind: "figure" },
          { name: "Who", cell: ({ account }) => account ?? html`<span class="dim">anonymous</span>` },
          { name: "When", cell: ({ atMs }) => ago(atMs, nowMs) },
        ],
        pulls,
      );
}

function subject({ requestId, method, kind, subject }: RecentPull): Html {
  return html`<a class="ref" href="${pathTo("/page/explain", { request: requestId })}">${subject === undefined ? "a request" : shortened(subject)}</a> <span class="dim">${[method, kind].filter((word) => word !== undefined).join(" ")}</span>`;
}

/** A digest takes most of a line, and tells people little. */
function shortened(subject: string): HtmlValue {
  const at = /@[a-z0-9]+:[0-9a-f]{32,}$/.exec(subject)?.index;
  return at === undefined ? subject : html`${subject.slice(0, at + 1)}${digestText(subject.slice(at + 1))}`;
}

function outcome({ running, cache, status }: RecentPull): Html {
  return running
    ? badge("notice", "under way")
    : html`${outcomeBadge(cache, status)} <span class="dim">${status}</span>`;
}

/** How an answer came to be, and whether the client was content with it. */
export function outcomeBadge(cache: string | undefined, status: number | undefined): Html {
  const isFailure = status !== undefined && status >= 400;
  const tone = isFailure ? (status >= 500 ? "bad" : "warn") : (TONES[cache ?? ""] ?? "plain");
  return badge(tone, cache === undefined || (isFailure && cache === "none") ? "refused" : cache);
}
