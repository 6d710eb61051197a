import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { createSpool } from "../../src/storage/spool.ts";
import { runSchedule, type ScheduleReport } from "../support/fill-schedule.ts";
import { filesOpenBelow } from "../support/open-files.ts";

const COUNT = Number(process.env.WEIR_TEST_FILL_SCHEDULES ?? 2000);
const SEED = Number(process.env.WEIR_TEST_FILL_SEED ?? Date.now() % 2 ** 31);
const TIMEOUT_MS = 60_000 + COUNT * 50;
/** Memory, where there is some: the schedules wait for the disk thousands of times. */
const FOLDER = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

test(
  `B16 ${COUNT} random schedules: no wrong byte, and nothing left over`,
  async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown): void => {
      unhandled.push(reason);
    };
    process.on("unhandledRejection", note);
    await using stack = new AsyncDisposableStack();
    stack.defer(() => void process.off("unhandledRejection", note));
    const dir = await mkdtemp(join(FOLDER, "weir-test-"));
    stack.defer(() => rm(dir, { recursive: true, force: true }));
    const spool = createSpool({ dir, log: silentLog });
    stack.defer(() => spool.close());
    const reports: ScheduleReport[] = [];
    for (let seed = SEED; seed < SEED + COUNT; seed += 1) {
      try {
        reports.push(await runSchedule(seed, spool));
        const names = (await readdir(dir, { recursive: true })).filter((name) => name.includes("."));
        if (names.length > 0) throw new Error(`files are left: ${names.join(" ")}`);
        const open = (await filesOpenBelow(dir)).filter((name) => name.includes(".part"));
        if (open.length > 0) throw new Error(`files are open: ${open.join(" ")}`);
        if (unhandled.length > 0) throw new Error("an unhandled rejection", { cause: unhandled[0] });
      } catch (error) {
        const again = `WEIR_TEST_FILL_SEED=${seed} WEIR_TEST_FILL_SCHEDULES=1`;
        throw new Error(`schedule ${seed} (${again}): ${(error as Error).message}`, { cause: error });
      }
    }
    // The schedules are worth something only if they reach all ends.
    const outcomes = new Set(reports.flatMap((report) => report.outcomes));
    if (COUNT >= 100) expect([...outcomes].sort()).toEqual(["committed", "failed", "streamed"]);
    expect(reports.reduce((sum, report) => sum + report.completed, 0)).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);
