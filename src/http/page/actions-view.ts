import { counted } from "../../base/human.ts";
import type { PurgeEvent, PurgeSummary } from "../../proxy/upkeep/purge.ts";
import type { RefreshEvent } from "../../proxy/upkeep/refresh.ts";
import type { PinEvent } from "../../proxy/upkeep/upkeep.ts";
import { repositoryOf } from "./explain-view.ts";
import { type Html, html } from "./html.ts";
import { badge, duration, explainPath, nothing, pathTo, size, type Tone } from "./parts.ts";

export type DeedEvent = RefreshEvent | PurgeEvent | PinEvent;

const TITLES = { refresh: "Refresh", purge: "Purge", pin: "Pin", unpin: "Unpin" } as const;

export type Action = keyof typeof TITLES;

export function isAction(text: string): text is Action {
  return Object.hasOwn(TITLES, text);
}

export function titleOf(action: Action, ref: string): string {
  return `${TITLES[action]} ${ref}`;
}

/** What stands above the lines of what is being done. */
export function actionOpening(action: Action, ref: string): Html {
  return html`<h1>${TITLES[action]} <span class="ref">${ref}</span></h1>
<ol class="events">
`;
}

/** A line for what was done; undefined for what is not worth one, or the end. */
export function actionLine(event: DeedEvent): Html | undefined {
  if ("done" in event || event.event === "progress") {
    return undefined;
  }
  if (event.event === "purged") {
    return html`<li>${badge("plain", event.kind)} <span class="ref">${event.what}</span></li>\n`;
  }
  const [tone, text] = OUTCOMES[event.outcome];
  const { tag, before, after, detail, outcome } = event;
  return html`<li>${badge(tone, text)} <a class="ref" href="${explainPath(tag)}">${tag}</a>${
    outcome === "moved" && html`<span class="why">from <code>${before}</code> to <code>${after}</code></span>`
  }${detail !== undefined && html`<span class="why">${detail}</span>`}</li>\n`;
}

const OUTCOMES: Readonly<Record<"same" | "moved" | "gone" | "failed", readonly [tone: Tone, text: string]>> = {
  same: ["good", "unchanged"],
  moved: ["notice", "moved"],
  gone: ["warn", "gone"],
  failed: ["bad", "failed"],
};

/** What stands below the lines. @param more lines that were left out */
export function actionClosing(ref: string, end: DeedEvent | Error, more: number): Html {
  const repository = repositoryOf(ref);
  const isPartial = "outcomes" in end && (end.outcomes.failed ?? 0) > 0;
  const tone = end instanceof Error ? "bad" : isPartial ? "warn" : "good";
  return html`</ol>
${more > 0 && html`<p class="dim">and ${more} more</p>`}
<div class="verdict ${tone}" role="status"><p>${end instanceof Error ? end.message : endText(end)}</p></div>
<p class="deeds">${repository && html`<a class="button" href="${pathTo("/page/repository", repository)}">Back to the repository</a>`} <a class="button" href="/page/held">Held</a></p>`;
}

function endText(end: DeedEvent): string {
  if ("pin" in end) {
    return `${end.pin}: ${end.changed ? "done" : "it was so already"}.`;
  }
  if ("outcomes" in end) {
    const told = Object.entries(OUTCOMES).flatMap(([outcome, [, text]]) => {
      const count = end.outcomes[outcome as keyof typeof OUTCOMES];
      return count === undefined ? [] : [`${count} ${text}`];
    });
    return end.tags === 0
      ? "No such tag is held."
      : `${counted(end.tags, "tag")} asked for in ${duration(end.tookMs)}: ${told.join(", ")}.`;
  }
  return "bytes" in end ? purgeText(end) : "Done.";
}

function purgeText(end: PurgeSummary): string {
  const { repositories, tags, manifests, layers, blobs, bytes, shared, dryRun } = end;
  const gone = [
    [repositories, "repository", "repositories"],
    [tags, "tag", "tags"],
    [manifests, "manifest", "manifests"],
    [layers, "link to a blob", "links to blobs"],
  ] as const;
  const told = gone.filter(([count]) => count > 0).map(([count, one, many]) => counted(count, one, many));
  if (told.length === 0) {
    return "Nothing of it is held.";
  }
  const kept =
    shared === 0
      ? ""
      : ` ${counted(shared, "blob")} ${shared === 1 ? "stays" : "stay"}, since another repository has ${shared === 1 ? "it" : "them"}.`;
  return `${told.join(", ")} ${dryRun ? "would go" : "went"}, and with them ${counted(blobs, "blob")} of ${size(bytes)}.${kept}`;
}

/** What a purge would remove, and the button for it. @param dry undefined where that took too long to find out */
export function purgeView(ref: string, dry: PurgeSummary | undefined, formToken: string): Html {
  const repository = repositoryOf(ref);
  const back = repository === undefined ? "/page/held" : pathTo("/page/repository", repository);
  const isNothing = dry !== undefined && dry.tags + dry.manifests + dry.layers === 0;
  return html`<h1>Purge <span class="ref">${ref}</span>?</h1>
${
  isNothing
    ? nothing("Nothing of it is held.")
    : html`<div class="verdict warn"><p><strong>${dry === undefined ? "It takes long to find out how much would go." : purgeText(dry)}</strong></p>
<p>Clients that ask for it afterwards get it from the upstream again. If that does not have it any more, it is gone.</p></div>`
}
<div class="deeds">
${
  !isNothing &&
  html`<form class="deed" method="post" action="/page/actions/purge"><input type="hidden" name="form" value="${formToken}"><input type="hidden" name="ref" value="${ref}"><button class="danger">Purge it</button></form>`
}
<a class="button" href="${back}">Leave it</a>
</div>`;
}
