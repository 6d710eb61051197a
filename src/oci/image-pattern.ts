import { compileGlob } from "../base/glob.ts";
import { compilePattern, probePattern } from "../base/pattern.ts";
import { quote } from "../base/quote.ts";
import { type Digest, isDigest } from "./digest.ts";

/** What of one upstream a rule means: repositories as a whole, some of their tags, or one digest in them. */
export type ImagePattern = {
  /** Whether the repository, by its full name at the upstream, is one of them. */
  repository(name: string): boolean;
} & (
  | { readonly part: "all" }
  | { readonly part: "tag"; tag(name: string): boolean }
  | { readonly part: "digest"; readonly digest: Digest }
);

/**
 * Compiles `<repository>`, `<repository>:<tag>` or `<repository>@<digest>`: globs in which `**` crosses `/`; the tag part may
 * be a `/regex/` that must match the whole tag.
 *
 * @param normalise the name that a repository has at the upstream, for globs that could be a short name (`nginx`)
 * @throws Error with a sentence for the operator
 */
export function compileImagePattern(text: string, normalise: (repository: string) => string): ImagePattern {
  const { name, tag, digest } = split(text);
  // `**` stands for any number of components, so it is no short name.
  const repository = compileGlob(name.includes("**") ? name : normalise(name));
  if (digest !== undefined) {
    return { repository, part: "digest", digest };
  }
  return tag === undefined ? { repository, part: "all" } : { repository, part: "tag", tag: compilePattern(tag) };
}

/**
 * What {@link compileImagePattern} would refuse, and regular expressions that a client's tag could make run for ever.
 *
 * @throws Error with a sentence for the operator
 */
export function probeImagePattern(text: string): void {
  compileImagePattern(text, (repository) => repository);
  const { tag } = split(text);
  if (tag !== undefined) {
    probePattern(tag);
  }
}

interface Parts {
  readonly name: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

function split(text: string): Parts {
  const at = text.indexOf("@");
  if (at !== -1) {
    const digest = text.slice(at + 1);
    if (!isDigest(digest)) {
      throw new Error(
        `${quote(digest)} is not a digest: expected sha256: with 64 or sha512: with 128 lower-case hex digits`,
      );
    }
    return { name: text.slice(0, at), tag: undefined, digest };
  }
  const colon = text.indexOf(":");
  return colon === -1
    ? { name: text, tag: undefined, digest: undefined }
    : { name: text.slice(0, colon), tag: text.slice(colon + 1), digest: undefined };
}
