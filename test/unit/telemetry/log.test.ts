import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";
import type { TelemetryConfig } from "../../../src/config/types.ts";
import { createLog } from "../../../src/telemetry/log.ts";

function capture(level: TelemetryConfig["logLevel"] = "info") {
  const lines: Record<string, unknown>[] = [];
  return { lines, log: createLog({ level, destination: { write: (line) => lines.push(JSON.parse(line)) } }) };
}

test("a line is JSON with time, level, fields and message", () => {
  const { lines, log } = capture();
  log.info({ upstream: "docker.io", bytes: 3 }, "hello\nthere");
  expect(lines).toEqual([
    {
      level: "info",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      upstream: "docker.io",
      bytes: 3,
      msg: "hello\nthere",
    },
  ]);
});

test("lines that pino does not put together are the same as those that it does", () => {
  const texts: string[] = [];
  const log = createLog({ level: "debug", destination: { write: (line) => texts.push(line) } });
  for (const fields of [
    {},
    { a: "x", b: 1, c: true, d: undefined, e: Number.NaN, f: -0, g: 1e21, h: Number.POSITIVE_INFINITY },
    {
      quoted: 'a "b" \\ c',
      control: "\u0000\n\u001b[2J",
      long: 'y"'.repeat(100),

      'na"me': "界🐳\u2028",
    },
    { account: undefined, first: undefined, last: 3 },
  ]) {
    // Pino puts debug lines together.
    log.info(fields, 'hello\n"there"');
    log.debug(fields, 'hello\n"there"');
    const [plain, pinos] = texts.splice(0).map((line) => line.replace(/"time":"[^"]*"/, '"time":""'));
    expect(plain).toBe(pinos?.replace('"level":"debug"', '"level":"info"'));
  }
});

test("members that are text already make the same line, and are not asked for where nobody is told", () => {
  const texts: string[] = [];
  const log = createLog({ level: "info", destination: { write: (line) => texts.push(line) } });
  const fields = { a: 'x"', b: 1 };
  log.info(fields, "hello");
  log.infoText?.(() => JSON.stringify(fields).slice(1, -1), "hello");
  const [one, other] = texts.map((line) => line.replace(/"time":"[^"]*"/, '"time":""'));
  expect(other).toBe(one);
  let asked = 0;
  for (const level of ["warn", "info"] as const) {
    log.setLevel(level);
    log.infoText?.(() => {
      asked += 1;
      return "";
    }, "hello");
  }
  expect([asked, texts.length]).toEqual([1, 3]);
});

test("a standard output that nobody has flushed gets every line of a process that exits", async () => {
  const module = new URL("../../../src/telemetry/log.ts", import.meta.url).href;
  const script = `const { createLog } = await import(${JSON.stringify(module)});
    const log = createLog({ level: "info" });
    for (let i = 0; i < 300; i += 1) log.info({ i }, "line");
    log.warn({ err: new Error("x") }, "the last");
    process.exit(3);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    out += chunk;
  });
  const [code] = await once(child, "close");
  const lines = out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(code).toBe(3);
  expect(lines.slice(0, -1).map(({ i }) => i)).toEqual(Array.from({ length: 300 }, (_, i) => i));
  expect(lines.at(-1)).toMatchObject({ msg: "the last", err: { message: "x" } });
});

test.each([
  ["debug", 4],
  ["info", 3],
  ["warn", 2],
  ["error", 1],
] as const)("level %s writes %i of four lines", (level, count) => {
  const { lines, log } = capture(level);
  for (const each of ["debug", "info", "warn", "error"] as const) log[each]({}, each);
  expect(lines).toHaveLength(count);
});

test("O3 the level can change, and with it whether errors show their stack", () => {
  const { lines, log } = capture("error");
  log.info({}, "unseen");
  log.setLevel("debug");
  log.debug({ err: new Error("x") }, "seen");
  log.setLevel("warn");
  log.info({}, "unseen");
  log.warn({ err: new Error("x") }, "seen");
  expect(lines).toEqual([
    expect.objectContaining({ level: "debug", err: expect.objectContaining({ stack: expect.any(String) }) }),
    expect.objectContaining({ level: "warn", err: { type: "Error", message: "x" } }),
  ]);
});

test("A4 a Secret comes out as stars, at whatever depth", () => {
  const { lines, log } = capture("debug");
  const secret = new Secret("geheim");
  log.warn({ secret, nested: { list: [{ password: secret }] }, err: new Error("x", { cause: secret }) }, "m");
  expect(JSON.stringify(lines)).not.toContain("geheim");
  expect(lines[0]).toMatchObject({ secret: "***", nested: { list: [{ password: "***" }] } });
});

describe("errors", () => {
  const cause = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET" });
  const err = new TypeError("it broke", { cause });

  test("are type, code and message with their causes, without a stack", () => {
    const { lines, log } = capture();
    log.error({ err, other: cause }, "m");
    expect(lines[0]).toMatchObject({ other: { type: "Error", code: "ECONNRESET", message: "read ECONNRESET" } });
    expect(lines[0]?.err).toEqual({
      type: "TypeError",
      message: "it broke",
      cause: { type: "Error", code: "ECONNRESET", message: "read ECONNRESET" },
    });
  });

  test("show their stack at level debug", () => {
    const { lines, log } = capture("debug");
    log.error({ err }, "m");
    expect(lines[0]).toMatchObject({ err: { stack: expect.stringContaining("log.test.ts") } });
  });

  test("that cause themselves come to an end", () => {
    const { lines, log } = capture();
    const circle = new Error("round");
    circle.cause = circle;
    log.error({ err: circle }, "m");
    expect(JSON.stringify(lines).match(/round/g)?.length).toBeLessThan(10);
  });
});
