import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SmallObjects } from "../../src/storage/small-objects.ts";

export interface ObjectsUnderTest {
  readonly objects: SmallObjects;
  /** Whatever lies about that is no object. Asked after every case, must be empty. */
  leftovers(): Promise<readonly string[]>;
  dispose(): Promise<void>;
}

const OPERATIONS = 1000;

/** What every {@link SmallObjects} promises. `create` makes an empty one. */
export function smallObjectsContract(o: { name: string; create(): Promise<ObjectsUnderTest> }): void {
  describe(`SmallObjects contract: ${o.name}`, () => {
    const call = { signal: new AbortController().signal };
    let under: ObjectsUnderTest;
    let objects: SmallObjects;

    beforeEach(async () => {
      under = await o.create();
      objects = under.objects;
    });

    afterEach(async () => {
      const leftovers = await under.leftovers();
      await under.dispose();
      expect(leftovers).toEqual([]);
    });

    async function text(key: string): Promise<string | undefined> {
      const bytes = await objects.get(key, call);
      return bytes === undefined ? undefined : Buffer.from(bytes).toString();
    }

    async function listed(prefix: string): Promise<string[]> {
      const names: string[] = [];
      for await (const name of objects.list(prefix, call)) names.push(name);
      return names.sort();
    }

    test("put, get, replace and delete", async () => {
      expect(await text("a/b")).toBeUndefined();
      await objects.put("a/b", Buffer.from("one"), call);
      expect(await text("a/b")).toBe("one");
      await objects.put("a/b", Buffer.from("two, longer"), call);
      expect(await text("a/b")).toBe("two, longer");
      await objects.put("a/b", Buffer.from("3"), call);
      expect(await text("a/b")).toBe("3");
      expect(await objects.delete("a/b", call)).toBe(true);
      expect(await objects.delete("a/b", call)).toBe(false);
      expect(await text("a/b")).toBeUndefined();
    });

    test("what an object takes up, and when it was written", async () => {
      expect(await objects.stat("a/b", call)).toBeUndefined();
      await objects.put("a/b", Buffer.alloc(1000), call);
      const stat = await objects.stat("a/b", call);
      expect(stat?.occupied).toBeGreaterThanOrEqual(1000);
      expect(Number.isSafeInteger(stat?.changedAtMs)).toBe(true);
      await objects.delete("a/b", call);
      expect(await objects.stat("a/b", call)).toBeUndefined();
    });

    test("an empty object is there", async () => {
      await objects.put("a/empty", new Uint8Array(), call);
      expect(await text("a/empty")).toBe("");
      expect(await listed("a/")).toEqual(["empty"]);
    });

    test("list gives names and folders directly under the prefix; of an absent one, nothing", async () => {
      for (const key of ["a/x", "a/y/1", "a/y/2", "a/y-z/1", "a-b/x", "ab/x"])
        await objects.put(key, Buffer.from(key), call);
      expect(await listed("a/")).toEqual(["x", "y-z/", "y/"]);
      expect(await listed("a/y/")).toEqual(["1", "2"]);
      expect(await listed("none/")).toEqual([]);
      expect(await listed("none/at/all/")).toEqual([]);
    });

    test("a folder disappears with its last object, and comes back", async () => {
      await objects.put("a/b/c/d", Buffer.from("1"), call);
      await objects.put("a/x", Buffer.from("2"), call);
      await objects.delete("a/b/c/d", call);
      expect(await listed("a/")).toEqual(["x"]);
      await objects.put("a/b/c/d", Buffer.from("3"), call);
      expect(await text("a/b/c/d")).toBe("3");
      expect(await listed("a/")).toEqual(["b/", "x"]);
    });

    test("a list that is left early, and one whose objects are deleted under it, end well", async () => {
      for (let index = 0; index < 100; index += 1) await objects.put(`many/${index}`, Buffer.from("x"), call);
      for await (const _ of objects.list("many/", call)) break;
      for await (const name of objects.list("many/", call)) await objects.delete(`many/${name}`, call);
      expect(await listed("many/")).toEqual([]);
    });

    test("readers racing writers see the old or the new content, never a mix", async () => {
      const contents = ["a", "b", "c"].map((letter) => letter.repeat(50_000));
      await objects.put("raced", Buffer.from(contents[0] ?? ""), call);
      await Promise.all([
        ...Array.from({ length: 30 }, (_, index) => objects.put("raced", Buffer.from(contents[index % 3] ?? ""), call)),
        ...Array.from({ length: 60 }, async () => expect(contents).toContain(await text("raced"))),
      ]);
    });

    test("puts and deletes in one folder at once end without an error", async () => {
      await Promise.all(
        Array.from({ length: 90 }, (_, index) => {
          const key = `p/q/${index % 3}/r`;
          return index % 2 === 0 ? objects.put(key, Buffer.from("x"), call) : objects.delete(key, call);
        }),
      );
      await objects.put("p/q/0/r", Buffer.from("last"), call);
      expect(await text("p/q/0/r")).toBe("last");
    });

    test.each([
      "",
      "/",
      "/etc/passwd",
      "..",
      "../x",
      "a/../b",
      "a/../../x",
      "a/..",
      ".",
      "./a",
      "a/./b",
      "a//b",
      "a/",
      "a\0b",
    ])("R6 the key %j is refused everywhere", async (key) => {
      await expect(objects.get(key, call)).rejects.toThrow(RangeError);
      await expect(objects.put(key, Buffer.from("x"), call)).rejects.toThrow(RangeError);
      await expect(objects.delete(key, call)).rejects.toThrow(RangeError);
      await expect(listed(`${key}/`)).rejects.toThrow(RangeError);
      await expect(listed("no-slash")).rejects.toThrow(RangeError);
    });

    test("an aborted signal ends every call with its reason", async () => {
      await objects.put("a/b", Buffer.from("x"), call);
      const reason = new Error("the client left");
      const aborted = { signal: AbortSignal.abort(reason) };
      await expect(objects.get("a/b", aborted)).rejects.toBe(reason);
      await expect(objects.put("a/b", Buffer.from("y"), aborted)).rejects.toBe(reason);
      await expect(objects.delete("a/b", aborted)).rejects.toBe(reason);
      await expect(objects.list("a/", aborted)[Symbol.asyncIterator]().next()).rejects.toBe(reason);
      expect(await text("a/b")).toBe("x");
    });

    test(`${OPERATIONS} random operations agree with a map`, async () => {
      const model = new Map<string, string>();
      const rounds = 10;
      const operation = fc.record({
        kind: fc.constantFrom("put", "delete", "get", "list" as const),
        // Folders and objects have names of their own: the layout never uses one name for both.
        folders: fc.array(fc.constantFrom("f", "g", "g-h"), { maxLength: 3 }),
        name: fc.constantFrom("x", "y"),
        value: fc.string(),
      });
      await fc.assert(
        fc.asyncProperty(
          fc.array(operation, { minLength: OPERATIONS / rounds, maxLength: OPERATIONS / rounds, size: "max" }),
          async (operations) => {
            for (const { kind, folders, name, value } of operations) {
              const prefix = ["top", ...folders, ""].join("/");
              const key = `${prefix}${name}`;
              if (kind === "put") {
                await objects.put(key, Buffer.from(value), call);
                model.set(key, Buffer.from(value).toString());
              } else if (kind === "delete") {
                expect(await objects.delete(key, call)).toBe(model.delete(key));
              } else if (kind === "get") {
                expect(await text(key)).toBe(model.get(key));
              } else {
                const below = [...model.keys()].filter((held) => held.startsWith(prefix));
                const names = new Set(below.map((held) => held.slice(prefix.length).replace(/\/.*/, "/")));
                expect(await listed(prefix)).toEqual([...names].sort());
              }
            }
          },
        ),
        { numRuns: rounds, endOnFailure: true },
      );
    });
  });
}
