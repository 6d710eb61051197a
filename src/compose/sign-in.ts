import { type Access, createAccess } from "../access/create-access.ts";
import { anonymous } from "../access/identity.ts";
import { makeSigningKey } from "../access/token-keys.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Config, EnvironmentProxies } from "../config/types.ts";
import { repoOfName } from "../http/route.ts";
import type { SignInSource } from "../http/sign-in.ts";
import type { OpenRoot } from "../storage/fs/root.ts";
import { createDocuments } from "./documents.ts";
import type { Live } from "./live.ts";

export interface SignInParts {
  live(): Live;
  /** Where a key is kept that is not given. */
  readonly root: OpenRoot | undefined;
  readonly proxies: EnvironmentProxies;
  readonly clock: Clock;
  readonly log: Log;
}

/** The ways to sign in that are in force, for a process that answers clients or has others that do. */
export interface ComposedSignIn extends SignInSource {
  /** Puts what the configuration has in force. Rejects where that cannot be. */
  open(config: Config): Promise<void>;
  /** Makes the same of a changed configuration. @throws where its files cannot be used */
  prepare(config: Config): { putInForce(): void };
}

export function composeSignIn(
  { live, root, proxies, clock, log }: SignInParts,
  publicUrl: URL | undefined,
): ComposedSignIn {
  let access: Access | undefined;
  const create = ({ access: { signIn } }: Config): Access | undefined =>
    createAccess(signIn, {
      documents: createDocuments({ config: () => live().config, proxies, clock }),
      names: { repoOf: (name) => repoOfName(name, live().routes) },
      mayPull: (identity, repo) =>
        live().accessRules.decide(identity, "pull", { ...repo, reference: undefined }).allowed,
      async storedKey() {
        if (root === undefined) throw new Error("access.token.key is needed: there is no folder to keep a key in");
        return await root.keepSecret(makeSigningKey);
      },
      clock,
      log,
    });
  return {
    access: () => access,
    anonymous,
    publicOrigin: publicUrl?.origin,
    async open(config) {
      access = create(config);
      await access?.ready();
    },
    prepare(config) {
      const next = create(config);
      return {
        putInForce() {
          access = next;
        },
      };
    },
  };
}
