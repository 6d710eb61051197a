import { humanTime } from "../../base/human.ts";
import type { PinnedBy, RepositoryOverview, TagRow } from "../../proxy/overview/overview.ts";
import { least, visibilityBadge } from "./held-view.ts";
import { type Html, html } from "./html.ts";
import {
  ago,
  ahead,
  badge,
  deed,
  digestText,
  explainPath,
  figure,
  nothing,
  pager,
  pathTo,
  size,
  table,
} from "./parts.ts";

export interface TagQuery {
  readonly search: string;
  /** From 1. */
  readonly page: number;
}

export const TAGS_PAGE = 50;

export function repositoryView(found: RepositoryOverview, query: TagQuery, formToken: string, nowMs: number): Html {
  const { upstream, repository, visibility, tags, sizeBytes, lastUsedMs, atLeast, total, rows, pinnedBy } = found;
  const name = `${upstream}/${repository}`;
  const { search, page } = query;
  const facts: readonly (readonly [string, Html | string])[] = [
    ["Visibility", visibilityBadge(visibility)],
    ["Tags", tags === undefined ? "–" : least(atLeast, figure(tags))],
    ["Size", least(atLeast && sizeBytes !== undefined, size(sizeBytes))],
    ["Last used", lastUsedMs === undefined ? "–" : ago(lastUsedMs, nowMs)],
  ];
  return html`<p class="crumbs"><a href="/page/held">Held</a> / <a href="${pathTo("/page/held", { upstream })}">${upstream}</a></p>
<h1 class="ref">${name}</h1>
<dl class="facts">${facts.map(([about, value]) => html`<div><dt>${about}</dt><dd>${value}</dd></div>`)}</dl>
<div class="deeds">
${deed(formToken, { action: "refresh", ref: name, button: "Refresh all tags", label: `Refresh all tags of ${name}` })}
${pinDeed(formToken, name, pinnedBy)}
<a class="button danger" href="${pathTo("/page/purge", { ref: name })}" aria-label="Purge all of ${name}">Purge\u2026</a>
</div>
<h2>Tags</h2>
<form class="search" method="get" action="/page/repository" role="search" aria-label="Tags">
<input type="hidden" name="upstream" value="${upstream}"><input type="hidden" name="repository" value="${repository}">
<label>Tag contains <input type="search" name="q" value="${search}" maxlength="128" autocapitalize="none" autocomplete="off" spellcheck="false"></label>
<button>Search</button>
</form>
${rows.length === 0 ? nothing(search === "" && page === 1 ? "No tag is held; what is held was pulled by digest." : "No held tag fits.") : tagsTable(name, rows, formToken, nowMs)}
${pager({
  page,
  size: TAGS_PAGE,
  total,
  one: "tag",
  many: "tags",
  atLeast: false,
  pathOf: (to) => pathTo("/page/repository", { upstream, repository, q: search, page: to === 1 ? undefined : to }),
})}`;
}

function tagsTable(name: string, rows: readonly TagRow[], formToken: string, nowMs: number): Html {
  return table<TagRow>(
    `Held tags of ${name}`,
    [
      {
        name: "Tag",
        cell: ({ tag, digest, pinnedBy }) =>
          html`<a class="ref" href="${explainPath(`${name}:${tag}`)}">${tag}</a>${pinnedBy && html` ${pinBadge(pinnedBy)}`}<span class="why">${digestText(digest)}</span>`,
      },
      { name: "Platforms", kind: "wide", cell: platforms },
      { name: "Size", cell: ({ sizeBytes }) => size(sizeBytes), kind: "figure" },
      { name: "Checked", cell: ({ checkedAtMs }) => (checkedAtMs === undefined ? "never" : ago(checkedAtMs, nowMs)) },
      { name: "Freshness", kind: "wide", cell: (row) => freshness(row, nowMs) },
      {
        name: "Actions",
        kind: "actions",
        cell: ({ tag, pinnedBy }) => {
          const ref = `${name}:${tag}`;
          return html`<div class="deeds">${deed(formToken, { action: "refresh", ref, button: "Refresh", label: `Refresh ${ref}` })}${pinDeed(formToken, ref, pinnedBy)}<a class="button danger" href="${pathTo("/page/purge", { ref })}" aria-label="Purge ${ref}">Purge\u2026</a></div>`;
        },
      },
    ],
    rows,
  );
}

function platforms({ platforms: all, held, mediaType }: TagRow): Html {
  if (all.length === 0) {
    return html`<span class="dim">${held ? (mediaType ?? "not known") : "not held"}</span>`;
  }
  return html`<ul class="words">${all.map(
    ({ platform, held: isHeld }) =>
      html`<li${!isHeld && html` class="dim" title="not held"`}>${platform}${!isHeld && html`<span class="sr"> (not held)</span>`}</li>`,
  )}</ul>`;
}

function freshness({ freshUntilMs, goneSinceMs, freshness: why, rule, ruleKey, ttlMs }: TagRow, nowMs: number): Html {
  const isFresh = freshUntilMs !== undefined && freshUntilMs > nowMs;
  const state =
    goneSinceMs !== undefined
      ? html`${badge("warn", "gone upstream")} since ${ago(goneSinceMs, nowMs)}`
      : isFresh
        ? html`${badge("good", "fresh")} ${Number.isFinite(freshUntilMs) && html`for ${ahead(freshUntilMs, nowMs)}`}`
        : badge("plain", "to be checked");
  return html`${state}<span class="why" title="${why}">${humanTime(ttlMs)} by ${rule === "default" ? ruleKey : html`${ruleKey} (${rule})`}</span>`;
}

function pinBadge({ pin, from }: PinnedBy): Html {
  return html`<span class="badge plain" title="${pin}">pinned</span>${from === "storage.pins" && html`<span class="why">by storage.pins</span>`}`;
}

/** What the configuration pins stays pinned until the configuration says otherwise. */
export function pinDeed(formToken: string, ref: string, pinnedBy: PinnedBy | undefined): Html | false {
  if (pinnedBy === undefined) {
    return deed(formToken, { action: "pin", ref, button: "Pin", label: `Pin ${ref}: it is never evicted` });
  }
  return (
    pinnedBy.from === "operator" &&
    pinnedBy.pin === ref &&
    deed(formToken, { action: "unpin", ref, button: "Unpin", label: `Unpin ${ref}` })
  );
}
