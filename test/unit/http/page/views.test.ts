import { describe, expect, test } from "vitest";
import { actionClosing, actionLine, purgeView } from "../../../../src/http/page/actions-view.ts";
import { explanationView, repositoryOf, requestView } from "../../../../src/http/page/explain-view.ts";
import { heldView } from "../../../../src/http/page/held-view.ts";
import type { Html } from "../../../../src/http/page/html.ts";
import { liveParts, type Moment, overviewView } from "../../../../src/http/page/overview-view.ts";
import { bar, duration, pager } from "../../../../src/http/page/parts.ts";
import { pullsTable } from "../../../../src/http/page/pulls-view.ts";
import { repositoryView } from "../../../../src/http/page/repository-view.ts";
import type { UpstreamOverview } from "../../../../src/proxy/overview/overview.ts";
import { type Element, find, findAll, parseHtml, rowsOf, textOf } from "../../../support/html-tree.ts";
import {
  SCRIPT,
  sampleExplanation,
  sampleFills,
  samplePulls,
  sampleRepositories,
  sampleRepository,
  sampleRequest,
  sampleStorage,
  sampleUpstreams,
} from "../../../support/page-samples.ts";

const NOW = Date.UTC(2026, 0, 1);
const FORM = "proof-of-the-form";

const MOMENT: Moment = {
  upstreams: sampleUpstreams(NOW),
  storage: sampleStorage(),
  fills: sampleFills(NOW),
  recent: samplePulls(NOW),
  nowMs: NOW,
};

function read(view: Html): Element {
  return parseHtml(view.toString());
}

function part(id: string, moment: Partial<Moment> = {}): Element {
  const found = liveParts({ ...MOMENT, ...moment }).get(id);
  if (found === undefined) throw new Error(`there is no part ${id}`);
  return read(found);
}

/** What the badge of an upstream says. */
function healthOf(fields: Partial<UpstreamOverview>): string {
  const [first] = MOMENT.upstreams;
  if (first === undefined) throw new Error("there is a sample");
  const healthy = { ...first, quotas: [], credentials: [], ...fields };
  return textOf(find(part("upstreams", { upstreams: [healthy] }), "span"));
}

describe("overview", () => {
  test("its parts stand in elements by whose ids they are replaced", () => {
    const view = read(overviewView(MOMENT));
    for (const [id, html] of liveParts(MOMENT)) {
      const [element] = [...findAll(view, "div", { id }), ...findAll(view, "ul", { id })];
      expect(element && textOf(element), id).toBe(textOf(read(html)));
    }
  });

  test("the worst of what is known of an upstream is told in words", () => {
    const origin = "https://reg.example";
    const closed = { origin, breaker: "closed", retryAtMs: undefined, breakers: [] } as const;
    const open = { ...closed, breaker: "open" } as const;
    const cdn = { origin: "https://cdn.example", role: "blob-host", open: true, untilMs: NOW, reason: "timeout" };
    const quota = { credential: "ci", source: undefined, limit: 100, remaining: 50, windowS: 60, observedAtMs: NOW };
    const credential = { label: "ci", parkedUntilMs: undefined, expiresAtMs: undefined, lastError: undefined };
    const parked = { ...credential, label: "old", parkedUntilMs: NOW + 1 };
    expect(healthOf({ endpoints: [closed] })).toBe("healthy");
    expect(healthOf({ endpoints: [open] })).toBe("not answering");
    expect(healthOf({ endpoints: [open, closed] })).toBe("partly in trouble");
    expect(healthOf({ endpoints: [{ ...closed, breaker: "half-open" }] })).toBe("not answering");
    expect(healthOf({ endpoints: [{ ...closed, breaker: "half-open" }, closed] })).toBe("partly in trouble");
    expect(healthOf({ endpoints: [{ ...closed, breakers: [cdn as never] }] })).toBe("partly in trouble");
    expect(healthOf({ quotas: [{ ...quota, closedUntilMs: NOW + 1 }] })).toBe("quota spent");
    expect(healthOf({ quotas: [{ ...quota, closedUntilMs: NOW }] })).toBe("healthy");
    expect(healthOf({ quotas: [{ ...quota, remaining: 9, closedUntilMs: undefined }] })).toBe("quota low");
    expect(healthOf({ quotas: [{ ...quota, remaining: undefined, closedUntilMs: undefined }] })).toBe("healthy");
    expect(healthOf({ credentials: [parked] })).toBe("credential refused");
    expect(healthOf({ credentials: [parked, credential] })).toBe("a credential is refused");
  });

  test("quotas, downloads and the storage have bars that say what they show", () => {
    const labels = (id: string): readonly (readonly (string | undefined)[])[] =>
      findAll(part(id), "svg").map(({ attributes }) => [attributes.get("aria-label"), attributes.get("aria-valuenow")]);
    expect(labels("upstreams")).toEqual([
      ["Quota of ci at docker.io: 143 of 200 left in 6 h", "72"],
      ["Quota of anonymous at docker.io: 6 of 100 left in 6 h", "6"],
    ]);
    expect(labels("fills")).toEqual([
      ["Download for docker.io/library/nginx: 393 MiB of 1.1 GiB", "34"],
      ["Download for docker.io/pytorch/pytorch: 8.6 MiB", undefined],
    ]);
    expect(labels("storage")).toEqual([["Storage: 35.3 GiB of 50.0 GiB", "71"]]);
    expect(textOf(part("fills"))).toContain("28.1 MiB/s, about 27 s left");
  });

  test("what is not there has words of its own", () => {
    expect(textOf(part("fills", { fills: [] }))).toBe("Nothing is being downloaded.");
    expect(textOf(part("upstreams", { upstreams: [] }))).toBe("No upstream is configured.");
    expect(textOf(part("recent", { recent: [] }))).toContain("No client has asked");
    const unlimited = { limitBytes: undefined, highBytes: undefined, lowBytes: undefined, counted: false };
    const storage = part("storage", { storage: { ...MOMENT.storage, ...unlimited, waitingUploads: 2 } });
    expect(textOf(storage)).toContain("at least 35.3 GiB, and no limit is set (storage.maxSize)");
    expect(textOf(storage)).toContain("2 blobs wait to be sent to the bucket");
    expect(findAll(storage, "svg")).toEqual([]);
  });

  test("the share from storage is of pulls that were answered", () => {
    expect(textOf(part("summary"))).toContain("From storage50 % of the last 6 pulls");
    expect(textOf(part("summary", { recent: [] }))).toContain("From storage– of the last 0 pulls");
    expect(textOf(part("summary"))).toContain("Upstreams2 in trouble of 5");
  });
});

describe("hostile words stay words", () => {
  const views: readonly (readonly [string, Html])[] = [
    ["overview", overviewView(MOMENT)],
    [
      "held",
      heldView(
        { search: SCRIPT, upstream: SCRIPT, page: 1 },
        { total: 5, complete: true, repositories: sampleRepositories(NOW) },
        ["docker.io"],
        NOW,
      ),
    ],
    [
      "repository",
      repositoryView({ ...sampleRepository(NOW), repository: SCRIPT }, { search: SCRIPT, page: 1 }, FORM, NOW),
    ],
    ["pulls", pullsTable(SCRIPT, samplePulls(NOW), NOW)],
    ["explanation", explanationView(sampleExplanation(NOW), FORM)],
    ["request", requestView(SCRIPT, sampleRequest(NOW))],
    ["purge", purgeView(SCRIPT, undefined, FORM)],
    ["action", actionClosing(SCRIPT, new Error(SCRIPT), 3)],
  ];

  test.each(views)("%s", (_name, view) => {
    const { children } = read(html5(view));
    const tree: Element = { name: "", attributes: new Map(), children };
    const shown = textOf(tree) + JSON.stringify([...findAll(tree, "input")].map(({ attributes }) => [...attributes]));
    expect(shown).toContain(SCRIPT);
    expect(findAll(tree, "script")).toEqual([]);
    for (const { attributes } of allElements(tree)) {
      for (const [name, value] of attributes) {
        expect(name).not.toMatch(/^on|^style$/);
        if (name === "href" || name === "action") expect(value).toMatch(/^(?:\/page|https?:\/\/|\/setup)/);
      }
    }
  });

  /** A closing part alone begins with the end of a list. */
  function html5(view: Html): Html {
    const text = view.toString();
    return { toString: () => (text.startsWith("</ol>") ? `<ol>${text}` : text) };
  }

  function allElements({ children }: Element): readonly Element[] {
    return children.flatMap((child) => (typeof child === "string" ? [] : [child, ...allElements(child)]));
  }
});

test("held repositories lead to their pages, unknown figures are dashes, and those not counted to the end say so", () => {
  const query = { search: "ngi", upstream: "docker.io", page: 2 };
  const found = { total: 262, complete: false, repositories: sampleRepositories(NOW) };
  const view = read(heldView(query, found, ["docker.io", "quay.io"], NOW));
  const rows = rowsOf(find(view, "table"));
  expect(rows[0]).toEqual({
    Repository: "docker.io/library/nginx",
    Visibility: "public",
    Tags: "214",
    Size: "1.4 GiB",
    "Last used": "3 min ago",
  });
  expect(rows[3]).toMatchObject({ Visibility: "–", Tags: "–", Size: "–", "Last used": "–" });
  expect(rows[4]).toMatchObject({ Tags: "≥ 214", Size: "≥ 1.4 GiB" });
  const [first] = findAll(find(view, "tbody"), "a");
  expect(first?.attributes.get("href")).toBe("/page/repository?upstream=docker.io&repository=library%2Fnginx");
  expect(textOf(view)).toContain("51 to 100 of at least 262 repositories");
  expect(find(view, "a", { rel: "prev" }).attributes.get("href")).toBe("/page/held?q=ngi&upstream=docker.io");
  expect(find(view, "a", { rel: "next" }).attributes.get("href")).toBe("/page/held?q=ngi&upstream=docker.io&page=3");
  expect(find(view, "option", { selected: "" }).attributes.get("value")).toBe("docker.io");
});

describe("a repository", () => {
  const view = read(repositoryView(sampleRepository(NOW), { search: "", page: 1 }, FORM, NOW));

  test("shows its tags", () => {
    const rows = rowsOf(find(view, "table"));
    expect(rows.map(({ Freshness }) => Freshness)).toEqual([
      "fresh for 6 min10 min by freshness.default",
      "fresh for 5 d7 d by freshness.rules[1] (**:/v?\\d+\\.\\d+\\.\\d+/)",
      "to be checked1 min by freshness.rules[0] (**:latest)",
      "gone upstream since 9 d ago10 min by freshness.default",
      "fresh for 6 min10 min by freshness.default",
    ]);
    expect(rows[0]).toMatchObject({ Platforms: "linux/amd64linux/arm64linux/arm/v7 (not held)", Size: "69.0 MiB" });
    expect(rows[4]).toMatchObject({ Platforms: "application/vnd.oci.image.manifest.v1+json", Checked: "never" });
  });

  test("has a form for each deed, with its proof; what storage.pins says cannot be taken back here", () => {
    const forms = findAll(view, "form", { method: "post" });
    const deeds = forms.map((form) => {
      const value = (name: string): string | undefined => find(form, "input", { name }).attributes.get("value");
      expect(value("form")).toBe(FORM);
      const button = find(form, "button");
      // Who hears the button hears what it is for, beginning with what is shown.
      expect(button.attributes.get("aria-label")?.startsWith(textOf(button))).toBe(true);
      return `${form.attributes.get("action")} ${value("ref")?.replace("docker.io/library/nginx", "")}`;
    });
    expect(deeds).toEqual([
      "/page/actions/refresh ",
      "/page/actions/pin ",
      "/page/actions/refresh :1.27",
      "/page/actions/pin :1.27",
      "/page/actions/refresh :1.27.3",
      "/page/actions/unpin :1.27.3",
      "/page/actions/refresh :latest",
      "/page/actions/refresh :old",
      "/page/actions/pin :old",
      "/page/actions/refresh :chart",
      "/page/actions/pin :chart",
    ]);
  });

  test("a purge is asked about first", () => {
    const links = findAll(view, "a").map(({ attributes }) => attributes.get("href") ?? "");
    expect(links.filter((href) => href.startsWith("/page/purge"))).toHaveLength(6);
  });
});

test("an explanation is told by what each line is about, and the verdict stands above", () => {
  const view = read(explanationView(sampleExplanation(NOW), FORM));
  expect(textOf(find(view, "div", { class: "verdict good" }))).toBe(
    "The next pull is answered from storageIt is answered from storage, and nobody is asked.Fresh for 6 min more.",
  );
  const told = find(view, "dl", { class: "told" });
  expect(findAll(told, "dt").map(textOf)).toEqual(["means", "checked", "held", "visibility", "quota"]);
  expect(findAll(told, "dd").map(textOf).slice(2, 4)).toEqual([
    "application/vnd.oci.image.index.v1+json, 10.0 KiB: held",
    "linux/amd64: 8 of 8 blobs held, 68.9 MiB",
  ]);
});

test("what was done for a request stands on a line of time", () => {
  const view = read(requestView("b2b0c6de-0002", sampleRequest(NOW)));
  const steps = findAll(find(view, "ol", { class: "steps" }), "li");
  expect(steps.map((step) => textOf(step).split(" ")[0])).toEqual(["+1", "+2", "+130"]);
  const done = steps.map((step) => findAll(step, "rect", { class: "done" })[0]?.attributes);
  expect(done[0]).toBeUndefined();
  expect([done[2]?.get("x"), done[2]?.get("width")]).toEqual(["20.3", "75"]);
  expect(findAll(view, "a").map(({ attributes }) => attributes.get("href"))).toContain(
    "/page/explain?ref=docker.io%2Flibrary%2Fnginx%3A1.27",
  );
});

test.each([
  ["docker.io/library/nginx:1.27", { upstream: "docker.io", repository: "library/nginx" }],
  ["reg.example:5000/a/b@sha256:00", { upstream: "reg.example:5000", repository: "a/b" }],
  ["reg.example:5000/a:1@sha256:00", { upstream: "reg.example:5000", repository: "a" }],
  ["nginx", undefined],
])("the repository of %s", (reference, repository) => {
  expect(repositoryOf(reference)).toEqual(repository);
});

test("the end of an action says what came of it", () => {
  const closing = (end: Parameters<typeof actionClosing>[1]): string =>
    textOf(find(read({ toString: () => `<ol>${actionClosing("docker.io/a:1", end, 0)}` }), "div", { role: "status" }));
  const purged = { done: true, repositories: 0, manifests: 3, layers: 14, blobs: 1, bytes: 2048, tookMs: 5 } as const;
  expect(closing({ ...purged, dryRun: false, tags: 1, shared: 1 })).toBe(
    "1 tag, 3 manifests, 14 links to blobs went, and with them 1 blob of 2.0 KiB. 1 blob stays, since another repository has it.",
  );
  expect(closing({ ...purged, dryRun: true, tags: 0, manifests: 0, layers: 0, shared: 0 })).toBe(
    "Nothing of it is held.",
  );
  expect(closing({ done: true, tags: 2, outcomes: { moved: 1, failed: 1 }, tookMs: 12 })).toBe(
    "2 tags asked for in 12 ms: 1 moved, 1 failed.",
  );
  expect(closing({ done: true, tags: 0, outcomes: {}, tookMs: 0 })).toBe("No such tag is held.");
  expect(closing({ done: true, pin: "docker.io/a:1", changed: true })).toBe("docker.io/a:1: done.");
  expect(closing(new Error("it broke"))).toBe("it broke");
  expect(actionLine({ event: "progress", repositories: 3 })).toBeUndefined();
});

test("pages of a list lead no further than there are any", () => {
  const options = {
    size: 50,
    one: "tag",
    many: "tags",
    atLeast: false,
    pathOf: (page: number) => `/page?page=${page}`,
  };
  const links = (page: number, total: number): readonly (string | undefined)[] =>
    findAll(read(pager({ ...options, page, total })), "a").map(({ attributes }) => attributes.get("href"));
  expect(links(1, 50)).toEqual([]);
  expect(links(1, 51)).toEqual(["/page?page=2"]);
  expect(links(2, 51)).toEqual(["/page?page=1"]);
  expect(links(9, 51)).toEqual(["/page?page=2"]);
  expect(links(2, 0)).toEqual(["/page?page=1"]);
});

test("a bar stays within itself", () => {
  const width = (share: number | undefined): string | undefined =>
    find(read(bar({ label: "x", share, tone: "good" })), "rect", { class: "done" }).attributes.get("width");
  expect([width(-1), width(0.5), width(7), width(undefined)]).toEqual(["0", "50", "100", "0"]);
});

test.each([
  [undefined, "–"],
  [0.44, "0.4 ms"],
  [37.4, "37 ms"],
  [1_240, "1.2 s"],
  [75_000, "1 min"],
])("a duration of %s ms is %s", (ms, text) => {
  expect(duration(ms)).toBe(text);
});
