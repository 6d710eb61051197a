import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { isMissing } from "./errno.ts";

/** Whether what is written at `a` and at `b` takes up the same filesystem's room. Folders that are missing count as made. */
export async function sharesDevice(a: string, b: string): Promise<boolean> {
  return (await deviceOf(a)) === (await deviceOf(b));
}

async function deviceOf(path: string): Promise<number> {
  try {
    return (await stat(path)).dev;
  } catch (error) {
    if (!isMissing(error) || dirname(path) === path) throw error;
    return await deviceOf(dirname(path));
  }
}
