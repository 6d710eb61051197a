import { beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { digestOf } from "../../../src/oci/digest.ts";
import type { RepoRef } from "../../../src/oci/reference.ts";
import { OperatorPins, pinning } from "../../../src/proxy/operator-pins.ts";
import type { UpstreamNames } from "../../../src/proxy/upkeep/selection.ts";
import { UpkeepError } from "../../../src/proxy/upkeep/upkeep.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { PINS_KEY } from "../../../src/storage/layout.ts";
import { createPinStore } from "../../../src/storage/pins.ts";
import type { SmallObjects } from "../../../src/storage/small-objects.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../support/memory-store.ts";

const call = { signal: new AbortController().signal };
const NGINX: RepoRef = { upstream: "docker.io", repository: "library/nginx" };
const DIGEST = digestOf(Buffer.from("manifest"));
const NAMES: UpstreamNames = {
  upstream: (name) => (["docker.io", "index.docker.io"].includes(name) ? "docker.io" : undefined),
  defaultUpstream: "docker.io",
  normalise: (_, repository) => (repository.includes("/") ? repository : `library/${repository}`),
};

let objects: SmallObjects;
let down: boolean;
let clock: ManualClock;
let pins: OperatorPins;

beforeEach(() => {
  const memory = createMemorySmallObjects();
  down = false;
  objects = {
    ...memory,
    get: async (key, o) => {
      if (down) throw new StorageError("unavailable", "down");
      return await memory.get(key, o);
    },
  };
  clock = new ManualClock(1_000);
  pins = open();
});

function open(): OperatorPins {
  return new OperatorPins({ store: createPinStore(objects), names: () => NAMES, clock, log: silentLog });
}

async function texts(of = pins): Promise<string[]> {
  return (await of.read(call)).map(({ text }) => text);
}

describe("pinning", () => {
  test.each([
    ["nginx:1.27", "docker.io/library/nginx:1.27"],
    ["index.docker.io/nginx", "docker.io/library/nginx"],
    [`nginx@${DIGEST}`, `docker.io/library/nginx@${DIGEST}`],
    ["quay.io/acme/**:v*", "quay.io/acme/**:v*"],
  ])("%s is %s, whoever reads it, and is taken back by every spelling", async (reference, pin) => {
    expect(await pins.pin(reference, call)).toEqual({ pin, added: true });
    expect(await pins.pin(pin, call)).toEqual({ pin, added: false });
    expect(await open().read(call)).toMatchObject([{ text: pin, from: "operator", sinceMs: 1_000 }]);
    expect(await open().unpin(reference, call)).toEqual({ pin, removed: true });
    expect(await pins.unpin(pin, call)).toEqual({ pin, removed: false });
    expect(await texts()).toEqual([]);
  });

  test.each(["", "nginx:!", "docker.io", "a@b@c"])("%j is refused with a sentence", async (reference) => {
    await expect(pins.pin(reference, call)).rejects.toThrow(UpkeepError);
    expect(await texts()).toEqual([]);
  });

  test("several at once are all kept", async () => {
    await Promise.all(["a:1", "b:1", "c:1", "b:1"].map((reference) => pins.pin(reference, call)));
    expect(await texts()).toEqual(["a", "b", "c"].map((name) => `docker.io/library/${name}:1`));
  });

  test("there are no more than a thousand", async () => {
    const many = Array.from({ length: 1000 }, (_, i) => ({ pin: `docker.io/library/a${i}`, sinceMs: 1 }));
    await createPinStore(objects).write(many, call);
    await expect(pins.pin("one-more", call)).rejects.toThrow("there are 1000 pins already");
    expect(await pins.pin("a7", call)).toMatchObject({ added: false });
    await pins.unpin("a7", call);
    expect(await pins.pin("one-more", call)).toMatchObject({ added: true });
  });
});

describe("reading", () => {
  test("of a storage that is down gives what was read last, and fails where nothing was", async () => {
    await pins.pin("nginx", call);
    down = true;
    expect(await texts()).toEqual(["docker.io/library/nginx"]);
    await expect(open().read(call)).rejects.toThrow(StorageError);
    await expect(pins.pin("other", call)).rejects.toThrow(StorageError);
  });

  test.each([
    "",
    "{",
    "[]",
    '{"pins":7}',
    '{"pins":[null,{"pin":1},{"pin":"docker.io/ok","sinceMs":1},{"pin":"a b","sinceMs":1}]}',
  ])("of a record that says %j takes what can be understood", async (text) => {
    await objects.put(PINS_KEY, Buffer.from(text), call);
    expect((await texts()).filter((pin) => pin !== "docker.io/ok")).toEqual([]);
  });
});

test("what a pin means: its tag, its digest, or all of its repository", async () => {
  for (const reference of ["nginx:1.27", `nginx@${DIGEST}`, "redis", "docker.io/acme/*:v*"])
    await pins.pin(reference, call);
  const all = await pins.read(call);
  const by = (repository: string, of: { tag?: string; digest?: typeof DIGEST }): string | undefined =>
    pinning(all, { ...NGINX, repository }, { tag: of.tag, digest: of.digest })?.text;
  expect(by("library/nginx", { tag: "1.27" })).toBe("docker.io/library/nginx:1.27");
  expect(by("library/nginx", { tag: "1.28" })).toBeUndefined();
  expect(by("library/nginx", { tag: "1.28", digest: DIGEST })).toBe(`docker.io/library/nginx@${DIGEST}`);
  expect(by("library/nginx", {})).toBeUndefined();
  expect(by("library/redis", {})).toBe("docker.io/library/redis");
  expect(by("library/redis/more", {})).toBeUndefined();
  expect(by("acme/app", { tag: "v1" })).toBe("docker.io/acme/*:v*");
  expect(by("acme/app", { tag: "w1" })).toBeUndefined();
});
