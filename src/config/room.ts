import { z } from "zod";
import { compileGlob } from "../base/glob.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { compileMatch, matchName, probeMatch } from "./freshness-match.ts";
import type { RoomConfig } from "./types.ts";
import { AGE, checkedBy, duration, size, value } from "./values.ts";

const MiB = 2 ** 20;

/** From what a handful of images needs to more than any disk has. */
export const SPACE = { min: MiB, max: 2 ** 50 } as const;

const space = size(SPACE);

export const spaceOrNone = value(
  "a size from 1MiB, such as 50GiB, or none",
  (input) => {
    if (input === "none") {
      return "none" as const;
    }
    const parsed = space.safeParse(input);
    return parsed.success ? parsed.data : undefined;
  },
  { type: ["string", "integer"], pattern: "^none$|^\\d+([KMGT]i?B|B)?$|\\$\\{" },
);

/** What a disk may hold unless the configuration says otherwise. */
const DEFAULT_SPACE = 50 * 1024 * MiB;

/** A share from 0 to 1. */
const share = value(
  "a share from 1% to 100%, such as 95%",
  (input) => {
    const percent = typeof input === "string" ? Number(/^(\d{1,3})%$/.exec(input)?.[1]) : Number.NaN;
    return percent >= 1 && percent <= 100 ? percent / 100 : undefined;
  },
  { type: "string", pattern: "^\\d{1,3}%$|\\$\\{" },
);

const pin = value(
  "<upstream>/<repository>:<tag> or <upstream>/<repository>, as a glob",
  (input) => (typeof input === "string" ? checkedBy(checkPin, input) : undefined),
  { type: "string", minLength: 1 },
);

/** The keys of `storage` that say how much is kept. */
export const roomKeys = {
  maxSize: spaceOrNone
    .optional()
    .describe(
      "How much may be held on the disk, or none for no limit: 50GiB; what was used least recently goes first.",
    ),
  highWater: share.prefault("95%").describe("Share of maxSize above which blobs are evicted..."),
  lowWater: share.prefault("85%").describe("...until so much is left."),
  maxAge: duration(AGE).optional().describe("What nobody asks for longer than this goes. Nothing does when left out."),
  pins: z
    .array(pin)
    .prefault([])
    .describe(
      "Globs `<upstream>/<repository>:<tag>`, or without a tag for whole repositories: what stays in any case.",
    ),
};

type Parsed = z.output<z.ZodObject<typeof roomKeys>>;
type Report = (path: readonly (string | number)[], message: string) => void;

export function roomConfig(parsed: Parsed, report: Report): RoomConfig {
  const { maxSize = DEFAULT_SPACE, highWater, lowWater, maxAge, pins } = parsed;
  if (lowWater >= highWater) {
    report(
      ["lowWater"],
      "expected less than storage.highWater, so that each eviction makes room for more than one blob",
    );
  }
  return { maxSize: maxSize === "none" ? undefined : maxSize, highWater, lowWater, maxAgeMs: maxAge, pins };
}

/** What one of the pins means. */
export interface CompiledPin {
  repository(repo: RepoRef): boolean;
  /** Of such a repository; undefined: everything that it has. */
  readonly tag: ((tag: string) => boolean) | undefined;
}

/** @throws Error with a sentence for the operator */
export function compilePin(text: string): CompiledPin {
  const name = hasTag(text) ? matchName(text) : undefined;
  const repository = compileGlob(name ?? text);
  if (name === undefined) {
    return { repository: (repo) => repository(formatRepo(repo)), tag: undefined };
  }
  const matches = compileMatch(`**${text.slice(name.length)}`);
  return { repository: (repo) => repository(formatRepo(repo)), tag: (tag) => matches(ANY_REPOSITORY, tag) };
}

const ANY_REPOSITORY: RepoRef = { upstream: "", repository: "" };

function checkPin(text: string): void {
  if (hasTag(text)) {
    probeMatch(text);
  }
  compilePin(text);
}

/** A colon that is not that of an upstream's port, which has a slash behind it. */
function hasTag(text: string): boolean {
  return text.includes(":/") ? text.endsWith("/") : text.lastIndexOf(":") > text.lastIndexOf("/");
}
