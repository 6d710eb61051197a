import { expect, test } from "vitest";
import { examinationsAsJson, formatExaminations, hasFailed } from "../../../src/commands/doctor-report.ts";
import type { Examination } from "../../../src/upstream/doctor/examine.ts";
import type { Step } from "../../../src/upstream/doctor/step.ts";

const step = (name: Step["name"], over: Partial<Step> = {}): Step => ({
  name,
  credential: undefined,
  status: "ok",
  detail: "fine",
  advice: undefined,
  ms: 1.6,
  ...over,
});

const good: Examination = {
  upstream: "quay.io",
  endpoint: "https://quay.io",
  proxy: "proxy.example:3128",
  sample: "a/b:1",
  steps: [step("dns", { detail: "192.0.2.1" }), step("tls", { status: "warning", advice: "renew it", ms: 1234 })],
};

const bad: Examination = {
  upstream: "reg.example",
  endpoint: "http://reg.example:5000",
  proxy: undefined,
  sample: undefined,
  steps: [
    step("token", { credential: "ci", status: "failed", detail: "no", advice: "do this", ms: undefined }),
    step("blob", { status: "skipped", detail: "not asked", ms: undefined }),
  ],
};

test("a table with one width for all, advice below, and a summary", () => {
  expect(formatExaminations([good, bad])).toBe(
    [
      "quay.io  https://quay.io, through proxy.example:3128, asked for a/b:1",
      "  dns         ok          2 ms  192.0.2.1",
      "  tls         warning  1234 ms  fine",
      "              -> renew it",
      "",
      "reg.example  http://reg.example:5000",
      "  token (ci)  failed            no",
      "              -> do this",
      "  blob        -                 not asked",
      "",
      "2 endpoints: not all is well with reg.example",
      "",
    ].join("\n"),
  );
  expect(formatExaminations([good])).toMatch(/\n1 endpoint: all is well, with warnings\n$/);
});

test("what a terminal would obey is not printed", () => {
  const hostile = { ...good, steps: [step("tls", { detail: "\u001b[2J\u009b1m\u202eCA", advice: "a\nb" })] };
  const shown = formatExaminations([hostile]);
  for (const character of ["\u001b", "\u009b", "\u202e"]) expect(shown).not.toContain(character);
  expect(shown).toContain("-> a?b");
});

test("JSON has a null for what is not there, and whole milliseconds", () => {
  const document = JSON.parse(examinationsAsJson([good, bad]));
  expect(document.ok).toBe(false);
  expect(document.endpoints[0]).toMatchObject({ ok: true, proxy: "proxy.example:3128", reference: "a/b:1" });
  expect(document.endpoints[0].steps[1]).toEqual({
    name: "tls",
    credential: null,
    status: "warning",
    detail: "fine",
    advice: "renew it",
    ms: 1234,
  });
  expect(document.endpoints[1]).toMatchObject({ ok: false, proxy: null, reference: null });
  expect([good, bad].map(hasFailed)).toEqual([false, true]);
});
