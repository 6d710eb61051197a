/** Many repositories at once, at the moment when nothing is known of a credential yet. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { startDistributionDouble } from "../support/registries/distribution.ts";
import type { Role } from "../support/registries/double-server.ts";
import { startGitlabDouble } from "../support/registries/gitlab.ts";
import type { RegistryDouble } from "../support/registries/registry-double.ts";

/** More than the failed logins for which GitLab bans an address (30 in three minutes). */
const REPOSITORIES = Array.from({ length: 50 }, (_, n) => `group/app-${n}`);
const RIGHT = "glpat-the-right-one";
const WRONG = "glpat-the-wrong-one";
const ACCOUNTS = [{ username: "weir", password: RIGHT }];

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

async function startWeir(double: RegistryDouble, type: string, password: string): Promise<TestApp> {
  for (const repository of REPOSITORIES) double.add(repository, smallImage(repository), ["1"], "private");
  return await startTestApp(stack, {
    clock: new PausingClock(Date.now()),
    config: {
      upstreams: {
        "registry.example": {
          type,
          endpoints: [double.url],
          realms: [new URL(double.tokenUrl).hostname],
          credentials: [{ label: "ci", username: "weir", password }],
        },
      },
      access: { privateToAnonymous: true },
    },
  });
}

/** The answers' statuses, each with how often it came. */
async function pullAll({ url }: TestApp): Promise<Readonly<Record<number, number>>> {
  const counts: Record<number, number> = {};
  const pull = async (repository: string): Promise<void> => {
    const { status } = await httpRequest(`${url}/v2/registry.example/${repository}/manifests/1`);
    counts[status] = (counts[status] ?? 0) + 1;
  };
  await Promise.all(REPOSITORIES.map(pull));
  return counts;
}

/** The first login is answered when `first` resolves, the others when `others` does. */
function holdLogins(double: RegistryDouble, role: Role, first: Promise<void>, others: Promise<void>): void {
  const login = { role, authorization: "basic" } as const;
  double.fail({ ...login, nth: [1], effect: { kind: "hold", until: first } });
  const rest = Array.from({ length: REPOSITORIES.length - 1 }, (_, n) => n + 2);
  double.fail({ ...login, nth: rest, effect: { kind: "hold", until: others } });
}

/** With the right password one logs in, and then all others at once: one after the other they would wait for ever. */
async function expectOneThenAll(double: RegistryDouble, type: string, role: Role, refusal: number): Promise<void> {
  const weir = await startWeir(double, type, RIGHT);
  const logins = (): number => double.count({ role, authorization: "basic" });
  const first = Promise.withResolvers<void>();
  const others = Promise.withResolvers<void>();
  holdLogins(double, role, first.promise, others.promise);
  const pulling = pullAll(weir);
  // The question if the repository is public has been put for each of them, by nobody in particular, and answered.
  const asked = (): number => double.count({ role, authorization: "none", status: refusal });
  await expect.poll(asked).toBeGreaterThanOrEqual(REPOSITORIES.length);
  expect(logins()).toBe(1);
  first.resolve();
  await expect.poll(logins).toBe(REPOSITORIES.length);
  others.resolve();
  expect(await pulling).toEqual({ 200: REPOSITORIES.length });
  expect(logins()).toBe(REPOSITORIES.length);
}

const PARKED = { credential: "ci" };

test("U4 fifty repositories at once with a wrong password are one failed login at GitLab, and no ban", async () => {
  const gitlab = await startGitlabDouble(stack, { accounts: ACCOUNTS });
  const weir = await startWeir(gitlab, "gitlab", WRONG);
  expect(await pullAll(weir)).toEqual({ 502: REPOSITORIES.length });
  expect(gitlab.count({ role: "token", authorization: "basic" })).toBe(1);
  expect(gitlab.banned).toBe(false);
  expect(await weir.metric("weir_upstream_credential_parked", PARKED)).toBe(1);
});

test("U4 fifty at once with the right password wait for the first login at GitLab, and for no other", async () => {
  await expectOneThenAll(await startGitlabDouble(stack, { accounts: ACCOUNTS }), "gitlab", "token", 403);
});

test("U4 fifty at once with a wrong password are one failed login at a registry that takes Basic", async () => {
  const registry = await startDistributionDouble(stack, { accounts: ACCOUNTS, auth: "basic" });
  const weir = await startWeir(registry, "generic", WRONG);
  expect(await pullAll(weir)).toEqual({ 502: REPOSITORIES.length });
  expect(registry.count({ role: "registry", authorization: "basic" })).toBe(1);
  expect(await weir.metric("weir_upstream_credential_parked", PARKED)).toBe(1);
});

test("U4 fifty at once with the right password wait for the first of them at a registry that takes Basic", async () => {
  const registry = await startDistributionDouble(stack, { accounts: ACCOUNTS, auth: "basic" });
  await expectOneThenAll(registry, "generic", "registry", 401);
});

test("U4 a first login in trouble tells nothing of the credential: the next ones go on", async () => {
  const gitlab = await startGitlabDouble(stack, { accounts: ACCOUNTS });
  const weir = await startWeir(gitlab, "gitlab", RIGHT);
  gitlab.fail({ role: "token", authorization: "basic", nth: [1], effect: { kind: "cut", afterBytes: 0 } });
  expect(await pullAll(weir)).toEqual({ 200: REPOSITORIES.length });
  expect(gitlab.count({ role: "token", authorization: "basic" })).toBe(1 + REPOSITORIES.length);
});
