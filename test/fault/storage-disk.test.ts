import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { run, start, tempFolder, until } from "../support/processes.ts";
import { toolTest } from "../support/tools.ts";

const CHILD = fileURLToPath(new URL("storage-disk.child.ts", import.meta.url));

/** Runs a scenario in `folder`, with a tmpfs mounted at `folder/disk` that only the scenario sees. */
async function onDisk(scenario: string, folder: string, options: string): Promise<unknown> {
  const disk = join(folder, "disk");
  await mkdir(disk);
  const script = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"';
  const shell = ["unshare", "--mount", "sh", "-c", script, "sh", options, disk];
  const { stdout } = await run([...shell, process.execPath, CHILD, scenario, folder]);
  return JSON.parse(stdout);
}

async function openInChild(folder: string, wrapper: readonly string[] = []): Promise<string> {
  const { stdout } = await run([...wrapper, process.execPath, CHILD, "open", folder]);
  return JSON.parse(stdout);
}

toolTest(["mount"], "B14 a full disk: no-space, nothing half-written, the spooled file is left", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  expect(await onDisk("full", folder, "size=1536k")).toEqual({
    put: expect.stringMatching(/^no-space: /),
    ingest: expect.stringMatching(/^no-space: /),
    object: "done",
    anotherObject: expect.stringMatching(/^no-space: /),
    temporary: [],
    spooled: 2 << 20,
    afterwards: "done",
  });
});

toolTest(["mount"], "S7 a spool on another device than the root: the blob is copied, then published", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  expect(await onDisk("devices", folder, "size=4m")).toEqual({
    left: { aborted: "unexpected: Error: the client left", spooled: 700_000 },
    ingest: "done",
    same: true,
    spool: [],
    temporary: [],
  });
});

toolTest(["mount"], "S7 a full inode table: no-space, what is held stays, and opening says what to do", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  expect(await onDisk("inodes", folder, "nr_inodes=60")).toEqual({
    fault: expect.stringMatching(/^no-space: /),
    keptAll: true,
    temporary: [],
    open: expect.stringMatching(
      /^no-space: storage\.filesystem\.root: .* has no inode left \(see df and df -i\): make room$/,
    ),
  });
});

toolTest(["mount"], "S7 a read-only root is refused with a sentence", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  const script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"';
  const opened = await openInChild(folder, ["unshare", "--mount", "sh", "-c", script, "sh", folder]);
  expect(opened).toMatch(
    /^unavailable: storage\.filesystem\.root: .* cannot be written to by user \d+ \(EROFS\): make it writable/,
  );
});

test("S7 a root that another process holds is refused until that one is gone, however it went", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  const holder = await start([process.execPath, CHILD, "hold", folder]);
  stack.defer(async () => void (await holder.stop()));
  await until("the root to be held", () => holder.output().includes("held"));
  const refused = `is in use by another Weir (process ${holder.pid} on ${hostname()})`;
  expect(await openInChild(folder)).toContain(refused);
  holder.kill("SIGKILL");
  await holder.exited;
  expect(await openInChild(folder)).toBe("done");
});

toolTest(["mount"], "S7 a root that is held from another container, where process numbers mean nothing", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  const holder = await start([process.execPath, CHILD, "hold", folder]);
  stack.defer(async () => void (await holder.stop()));
  await until("the root to be held", () => holder.output().includes("held"));
  expect(await openInChild(folder, ["unshare", "--pid", "--fork", "--mount-proc"])).toContain("in use by another Weir");
});
