import manifest from "../../package.json" with { type: "json" };

/** Weir's own version, as package.json has it. */
export function packageVersion(): string {
  return manifest.version;
}
