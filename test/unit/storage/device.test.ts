import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { sharesDevice } from "../../../src/storage/fs/device.ts";
import { tempFolder } from "../../support/processes.ts";

test("S7 folders share a disk or do not, also before they are made", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  expect(await sharesDevice(folder, join(folder, "not", "there", "yet"))).toBe(true);
  const other = ["/dev/shm", "/proc"].find((path) => existsSync(path)) ?? folder;
  const differ = (await stat(other)).dev !== (await stat(folder)).dev;
  expect(await sharesDevice(folder, other)).toBe(!differ);
});
