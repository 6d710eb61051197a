import { compileGlob } from "../../base/glob.ts";
import type { CredentialConfig } from "../../config/types.ts";

/**
 * Compiles an upstream's credentials into the choice for a repository: the first whose `repositories` match, or that names
 * none. Undefined where none applies, and only then is the upstream asked anonymously.
 */
export function compileCredentials(
  credentials: readonly CredentialConfig[],
): (repository: string) => CredentialConfig | undefined {
  const candidates = credentials.map((credential) => {
    const globs = credential.repositories?.map(compileGlob);
    return { credential, fits: (repository: string) => globs?.some((matches) => matches(repository)) ?? true };
  });
  return (repository) => candidates.find((candidate) => candidate.fits(repository))?.credential;
}
