import { readFileSync } from "node:fs";

/** Weir's own version, as package.json has it. */
export function packageVersion(): string {
  // As far above src/base as above dist/base.
  const manifest: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  if (typeof manifest !== "object" || manifest === null || !("version" in manifest)) {
    throw new Error("package.json beside Weir has no version");
  }
  return String(manifest.version);
}
