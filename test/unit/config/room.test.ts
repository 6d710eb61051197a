import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import { compilePin } from "../../../src/config/room.ts";

function roomOf(storage: unknown) {
  const result = parseConfig({ storage }, {}, "/srv/weir");
  if (!result.ok) return result.problems.map(({ path, message }) => `${path}: ${message}`);
  return result.config.storage.room;
}

describe("how much is kept", () => {
  test.each([
    [{ maxSize: "none" }, { maxSize: undefined }],
    [{ maxSize: "200GiB" }, { maxSize: 200 * 2 ** 30 }],
    [{ maxSize: 1_048_576 }, { maxSize: 1_048_576 }],
    [
      { highWater: "100%", lowWater: "1%" },
      { highWater: 1, lowWater: 0.01 },
    ],
    [{ maxAge: "90d" }, { maxAgeMs: 90 * 86_400_000 }],
    [{ pins: ["docker.io/library/*:3.*", "**/base/**"] }, { pins: ["docker.io/library/*:3.*", "**/base/**"] }],
  ])("%j", (storage, wanted) => {
    expect(roomOf(storage)).toMatchObject(wanted);
  });

  test.each([
    [{ maxSize: "all" }, "storage.maxSize: expected a size from 1MiB, such as 50GiB, or none"],
    [{ maxSize: 1000 }, "storage.maxSize: expected a size from 1MiB"],
    [{ highWater: "0%" }, "storage.highWater: expected a share from 1% to 100%, such as 95%"],
    [{ highWater: 0.9 }, "storage.highWater: expected a share"],
    [{ lowWater: "101%" }, "storage.lowWater: expected a share"],
    [{ highWater: "85%" }, "storage.lowWater: expected less than storage.highWater"],
    [{ pins: ["docker.io/{a,b}"] }, "storage.pins[0]: "],
    [{ pins: ["**:/(a+)+/"] }, "storage.pins[0]: "],
  ])("%j is refused", (storage, problem) => {
    expect(roomOf(storage)).toEqual([expect.stringContaining(problem)]);
  });

  test("an upstream has a bound of its own", () => {
    const result = parseConfig(
      { routing: { default: "reg.example" }, upstreams: { "reg.example": { maxSize: "5GiB" } } },
      {},
      "/srv/weir",
    );
    const found = result.ok ? result.config.upstreams.find(({ name }) => name === "reg.example") : undefined;
    expect(found?.maxSize).toBe(5 * 2 ** 30);
  });
});

describe("a pin", () => {
  test.each<[pin: string, repository: string, tag: string, pinned: boolean]>([
    ["a.example/app:v1", "a.example/app", "v1", true],
    ["a.example/app:v1", "a.example/app", "v2", false],
    ["a.example/app:v1", "a.example/app/more", "v1", false],
    ["a.example/app", "a.example/app", "anything", true],
    ["**", "a.example/app", "anything", true],
    [String.raw`**:/v\d+/`, "a.example/app", "v10", true],
    [String.raw`**:/v\d+/`, "a.example/app", "v10-rc", false],
    ["reg.example:5000/app", "reg.example:5000/app", "anything", true],
    ["reg.example:5000/app:v1", "reg.example:5000/app", "v2", false],
  ])("%s means %s:%s: %s", (text, name, tag, pinned) => {
    const slash = name.indexOf("/");
    const pin = compilePin(text);
    const repo = { upstream: name.slice(0, slash), repository: name.slice(slash + 1) };
    expect(pin.repository(repo) && (pin.tag?.(tag) ?? true)).toBe(pinned);
  });
});
