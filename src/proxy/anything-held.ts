import type { CallOptions } from "../base/call.ts";
import type { Reference, RepoRef } from "../oci/reference.ts";
import type { Repositories } from "../storage/repositories.ts";

/** Something of the repository that its upstream can be asked for; undefined where nothing is held. */
export async function anythingHeld(
  repositories: Pick<Repositories, "tags" | "revisions">,
  repo: RepoRef,
  o: CallOptions,
): Promise<Reference | undefined> {
  const [tag] = await repositories.tags(repo, o);
  if (tag !== undefined) {
    return { kind: "tag", tag };
  }
  for await (const digest of repositories.revisions(repo, o)) {
    return { kind: "digest", digest };
  }
  return undefined;
}
