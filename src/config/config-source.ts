import { fileStamp, fileStampSync } from "../base/file-stamp.ts";
import { type LoadedConfig, type LoadOptions, loadConfigFrom } from "./load.ts";
import type { SignInConfig } from "./types.ts";

/** Where the configuration comes from, to be read time and again: the file, the environment, and every file that they name. */
export class ConfigSource {
  readonly #options: Pick<LoadOptions, "env" | "cwd">;
  #file: string | undefined;
  /** Path to what it was when it was last read. */
  #read: ReadonlyMap<string, string> = new Map();
  /** What the look before found. */
  #found = "";

  constructor({ file, env, cwd }: Omit<LoadOptions, "opening">) {
    this.#options = { env, cwd };
    this.#file = file;
  }

  /**
   * Reads everything anew. A file that was found once must be there from then on: without it the built-in default would
   * silently take its place.
   *
   * @throws ConfigError with everything that is wrong
   */
  async load(): Promise<LoadedConfig> {
    const read = new Map<string, string>();
    this.#read = read;
    // Before it is read: what is written meanwhile differs from this, and is seen.
    const opening = (path: string): void => {
      read.set(path, read.get(path) ?? fileStampSync(path));
    };
    const loaded = await loadConfigFrom({ ...this.#options, file: this.#file, opening });
    this.#file = loaded.file;
    for (const { tls } of loaded.config.upstreams) {
      [tls.ca, tls.cert, tls.key].filter((path) => path !== undefined).forEach(opening);
    }
    namedBySignIn(loaded.config.access.signIn).forEach(opening);
    return loaded;
  }

  /**
   * Whether a file has changed since {@link load} began to read it, be it by a symbolic link that leads elsewhere. True only
   * when two calls in a row found it the same, since a file may be half-written at the first.
   */
  async changed(): Promise<boolean> {
    const before = this.#found;
    const files = await Promise.all(
      [...this.#read].map(async ([path, was]) => ({ path, was, is: await fileStamp(path) })),
    );
    this.#found = JSON.stringify(files.map(({ path, is }) => [path, is]));
    return this.#found === before && files.some(({ was, is }) => was !== is);
  }
}

/** Files that are read when the configuration is put in force; an htpasswd file is followed by whoever reads it. */
function namedBySignIn({ token, oidc }: SignInConfig): readonly string[] {
  const ofToken =
    token?.kind === "external" ? [token.jwks, token.certificates] : [token?.key, ...(token?.oldKeys ?? [])];
  const ofIssuers = oidc?.issuers.map(({ jwks }) => jwks) ?? [];
  return [...ofToken, ...ofIssuers].filter((place) => typeof place === "string");
}
