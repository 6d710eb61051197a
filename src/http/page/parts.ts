import { counted, humanBytes, humanTime } from "../../base/human.ts";
import { type Html, type HtmlValue, html } from "./html.ts";

export type Tone = "good" | "notice" | "warn" | "bad" | "plain";

export function badge(tone: Tone, text: string): Html {
  return html`<span class="badge ${tone}">${text}</span>`;
}

/** `3 min ago`, with the instant itself for whoever wants to know. */
export function ago(atMs: number, nowMs: number): Html {
  const iso = isoOf(atMs);
  return html`<time datetime="${iso}" title="${iso}">${humanTime(Math.max(0, nowMs - atMs))} ago</time>`;
}

/** `for 3 min`: how long something goes on from now. */
export function ahead(atMs: number, nowMs: number): Html {
  const iso = isoOf(atMs);
  return html`<time datetime="${iso}" title="${iso}">${humanTime(Math.max(0, atMs - nowMs))}</time>`;
}

/** What remote parties say of time may be no instant at all. */
function isoOf(atMs: number): string {
  const date = new Date(atMs);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

export interface Bar {
  /** What it shows, for who does not see it. */
  readonly label: string;
  /** 0 to 1; undefined where it is not known how much the whole is. */
  readonly share: number | undefined;
  readonly tone: Tone;
  /** Where marks stand, 0 to 1. */
  readonly marks?: readonly number[];
}

/** A bar, as a picture: the policy for style sheets lets nothing say widths in place. */
export function bar({ label, share, tone, marks = [] }: Bar): Html {
  const width = Math.round(Math.min(1, Math.max(0, share ?? 0)) * 1000) / 10;
  const now = share === undefined ? undefined : html` aria-valuenow="${Math.round(width)}"`;
  return html`<svg class="bar ${tone}${share === undefined && " unknown"}" viewBox="0 0 100 4" preserveAspectRatio="none" role="progressbar" aria-label="${label}" aria-valuemin="0" aria-valuemax="100"${now}><rect class="track" width="100" height="4"></rect><rect class="done" width="${width}" height="4"></rect>${marks.map(
    (at) => html`<rect class="mark" x="${Math.round(at * 1000) / 10}" width="0.5" height="4"></rect>`,
  )}</svg>`;
}

export interface Column<Row> {
  readonly name: string;
  readonly cell: (row: Row) => HtmlValue;
  /** Figures stand to the right; what is wide, and what may be done, has a line of its own where a row is a card. */
  readonly kind?: "figure" | "wide" | "actions";
}

/** A table whose first column names the rows. On narrow screens each row is a card; the roles keep it a table for all. */
export function table<Row>(caption: string, columns: readonly Column<Row>[], rows: readonly Row[]): Html {
  const classOf = ({ kind }: Column<Row>): Html | false => kind !== undefined && html` class="${kind}"`;
  const heads = columns.map(
    (column) => html`<th role="columnheader" scope="col"${classOf(column)}>${column.name}</th>`,
  );
  const cells = (row: Row): Html[] =>
    columns.map((column, i) =>
      i === 0
        ? html`<th role="rowheader" scope="row">${column.cell(row)}</th>`
        : html`<td role="cell" data-name="${column.name}"${classOf(column)}>${column.cell(row)}</td>`,
    );
  return html`<table role="table"><caption>${caption}</caption>
<thead role="rowgroup"><tr role="row">${heads}</tr></thead>
<tbody role="rowgroup">
${rows.map((row) => html`<tr role="row">${cells(row)}</tr>\n`)}</tbody></table>`;
}

/** Where a page of the status page stands, with its query. */
export function pathTo(path: string, query: Readonly<Record<string, string | number | undefined>> = {}): string {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") {
      fields.set(name, String(value));
    }
  }
  const search = fields.toString();
  return search === "" ? path : `${path}?${search}`;
}

export function repositoryPath(upstream: string, repository: string): string {
  return pathTo("/page/repository", { upstream, repository });
}

export function explainPath(ref: string): string {
  return pathTo("/page/explain", { ref });
}

/** Rows of a list, a page at a time. `page` counts from 1. */
export interface Paged {
  readonly page: number;
  readonly size: number;
  readonly total: number;
  /** What is listed: `repository`, `tag`. */
  readonly one: string;
  readonly many: string;
  /** Not all is known: there may be more. */
  readonly atLeast: boolean;
  pathOf(page: number): string;
}

export function pager({ page, size, total, one, many, atLeast, pathOf }: Paged): Html {
  const least = atLeast ? "at least " : "";
  if (total <= size && page === 1) {
    return html`<p class="pager-count">${least}${counted(total, one, many)}</p>`;
  }
  const first = (page - 1) * size + 1;
  const last = Math.min(total, page * size);
  const pages = Math.max(1, Math.ceil(total / size));
  const link = (to: number, text: string, rel: string): Html =>
    to >= 1 && to <= pages
      ? html`<a class="button" rel="${rel}" href="${pathOf(to)}">${text}</a>`
      : html`<span class="button off" aria-hidden="true">${text}</span>`;
  const range = first > last ? "none" : `${first} to ${last}`;
  return html`<nav class="pager" aria-label="Pages">
${link(Math.min(page - 1, pages), "Previous", "prev")}
<span>${range} of ${least}${counted(total, one, many)}</span>
${link(page + 1, "Next", "next")}
</nav>`;
}

/** Something that may be done, as a form with one button. */
export interface Deed {
  readonly action: "refresh" | "pin" | "unpin" | "purge";
  readonly ref: string;
  readonly button: string;
  /** What it does to what, for who hears the button alone. */
  readonly label: string;
  readonly look?: "danger";
}

export function deed(formToken: string, { action, ref, button, label, look }: Deed): Html {
  return html`<form class="deed" method="post" action="/page/actions/${action}"><input type="hidden" name="form" value="${formToken}"><input type="hidden" name="ref" value="${ref}"><button${look && html` class="${look}"`} aria-label="${label}">${button}</button></form>`;
}

/** `4.1 GiB`; a dash where it is not known. */
export function size(bytes: number | undefined): string {
  return bytes === undefined ? "–" : humanBytes(bytes);
}

/** `37 ms`, `1.2 s`, `4 min`; a dash where it is not known. */
export function duration(ms: number | undefined): string {
  if (ms === undefined) {
    return "–";
  }
  if (ms < 1000) {
    return `${ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms)} ms`;
  }
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : humanTime(ms);
}

/** `10,000`. */
export function figure(count: number): string {
  return count.toLocaleString("en-US");
}

/** `sha256:0123456789ab…`, whole when it is copied or pointed at. */
export function digestText(digest: string): Html {
  const colon = digest.indexOf(":");
  return html`<code class="digest" title="${digest}">${digest.slice(0, colon + 13)}<span class="rest">${digest.slice(colon + 13)}</span></code>`;
}

/** Nothing to show, and why that may be. */
export function nothing(text: HtmlValue): Html {
  return html`<p class="nothing">${text}</p>`;
}
