/** The upstream client over a double of a registry, watched for secrets. */
import { inspect } from "node:util";
import { expect, onTestFinished } from "vitest";
import type { Log } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import type { PasswordCredentialConfig, UpstreamConfig } from "../../src/config/types.ts";
import { type Digest, parseDigest } from "../../src/oci/digest.ts";
import type { Lookup } from "../../src/upstream/transport.ts";
import type { Upstream, UpstreamError } from "../../src/upstream/upstream.ts";
import { failure, openUpstream, type TestClock, testClock } from "../integration/upstream/bench.ts";
import { type Content, type Image, multiArchImage, smallImage } from "../support/images.ts";
import type { RegistryDouble } from "../support/registries/registry-double.ts";
import type { Account, RegistryOptions } from "../support/registries/traits.ts";

export const image: Image = smallImage("upstream");
export const multi: Image = multiArchImage("upstream multi");
export const blob: Content = image.blobs[1] ?? image.root;
export const ACCOUNT: Account = { username: "robot", password: "upstream-p4ssword" };

export interface DoubleBench {
  /** Ends the doubles. */
  readonly stack: AsyncDisposableStack;
  /** Of the doubles and of the client. */
  readonly clock: TestClock;
  readonly options: RegistryOptions;
}

/** What a double is started with: {@link ACCOUNT} may sign in. */
export function doubleBench(): DoubleBench {
  const clock = testClock();
  const options = { accounts: [ACCOUNT], named: true, now: () => clock.now() };
  return { stack: new AsyncDisposableStack(), clock, options };
}

/** Puts the images into `team/app` and `team/other` for everybody, and into `team/secret` for accounts. */
export function filled<T extends RegistryDouble>(double: T): T {
  for (const [repository, visibility] of [
    ["team/app", "public"],
    ["team/other", "public"],
    ["team/secret", "private"],
  ] as const) {
    double.add(repository, image, ["1", "2"], visibility);
    double.add(repository, multi, ["multi"], visibility);
  }
  return double;
}

/**
 * The upstream client over a double that goes by its real names. When the test ends, nothing that it has logged, reported or
 * thrown may show a password, token or signature, and none of these may have come to where blobs and pages are.
 */
export function over(double: RegistryDouble, clock: TestClock, config: Partial<UpstreamConfig>): Upstream {
  const shown: unknown[] = [];
  const note = (fields: object, message: string): void => void shown.push({ ...fields, message });
  const log: Log = { debug: note, info: note, warn: note, error: note };
  const lookup: Lookup = (host) => double.lookup(host);
  const deps = { clock, lookup, log, classifyAddress: () => "public" as const };
  const { upstream, exchanges, breakers } = openUpstream(new URL(double.url), config, deps);
  onTestFinished(() => {
    expect(double.leaks()).toEqual([]);
    const text = inspect([...shown, ...exchanges, ...breakers], {
      depth: 8,
      maxArrayLength: null,
      maxStringLength: null,
    });
    expect([...double.secrets()].filter((secret) => text.includes(secret))).toEqual([]);
  });
  return watched(upstream, (error) => shown.push(error));
}

/** Tells of every rejection. */
function watched(upstream: Upstream, rejected: (error: unknown) => void): Upstream {
  return new Proxy(upstream, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key, target);
      if (typeof member !== "function") return member;
      return (...given: unknown[]): unknown => {
        const result: unknown = member.apply(target, given);
        if (result instanceof Promise) result.catch(rejected);
        return result;
      };
    },
  });
}

export function credentialOf(login: {
  readonly username: string;
  readonly password: string;
}): PasswordCredentialConfig {
  const { username, password } = login;
  return { source: "password", label: "ci", username, password: new Secret(password), repositories: undefined };
}

/** The fault that a call must fail with, and what was absent. */
export async function fault(call: Promise<unknown>): Promise<string> {
  const error: UpstreamError = await failure(call);
  return error.absent === undefined ? error.fault : `${error.fault}:${error.absent}`;
}

export function digest(of: { readonly digest: string }): Digest {
  return parseDigest(of.digest);
}
