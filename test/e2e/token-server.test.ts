/** Real clients, a token server that was there before, and a Weir that takes its tokens. */
import { afterEach, beforeEach, expect } from "vitest";
import { createAuthority } from "../support/certificates.ts";
import { CONTAINERD_TOOLS, SKOPEO_TOOLS, skopeoCopy, startContainerd } from "../support/engines.ts";
import { push, smallImage } from "../support/images.ts";
import { createLab } from "../support/lab.ts";
import { until } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { startTokenServer } from "../support/token-server.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;
const IMAGE = smallImage("token-server");
const PASSWORD = "a-s3cret-of-alice";
const ISSUER = "Acme auth server";
const SERVICE = "Acme registry";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

/** The server knows alice, and lets her have what is in `team`. */
async function world(names: "kid" | "x5c") {
  const lab = await createLab(stack);
  const origin = await startRegistry(stack, { network: lab });
  for (const repository of ["team/small", "rival/small"]) await push(origin.url, repository, "1", IMAGE, lab);
  const authority = await createAuthority(stack);
  const signer = await authority.issue(["auth.example"]);
  const server = await startTokenServer(stack, {
    network: lab,
    issuer: ISSUER,
    signer,
    names,
    passwords: { alice: PASSWORD },
    allows: (_account, repository) => repository.startsWith("quay.io/team/"),
  });
  const certificates = names === "kid" ? signer.certFile : authority.caFile;
  const weir = await startWeir(stack, {
    network: lab,
    config: {
      upstreams: { "quay.io": { type: "generic", endpoints: [origin.url] } },
      access: {
        mode: "token",
        token: { service: SERVICE, external: { realm: server.realm, issuer: ISSUER, certificates } },
      },
    },
    secrets: [PASSWORD],
  });
  return { lab, weir, server, may: `${weir.host}/quay.io/team/small:1`, mayNot: `${weir.host}/quay.io/rival/small:1` };
}

const SCOPE = "repository:quay.io/team/small:pull";

toolTest(
  SKOPEO_TOOLS,
  "skopeo, by the name of the signer's key: with the right password, a wrong one, none, and for what the server does not grant",
  async () => {
    const { lab, weir, server, may, mayNot } = await world("kid");
    const copy = (image: string, ...options: readonly string[]) => skopeoCopy(stack, lab, image, options);
    const alice = ["--src-creds", `alice:${PASSWORD}`];
    expect(await copy(may, ...alice)).toBe(IMAGE.root.digest);
    for (const question of server.asked) expect(question).toEqual(["alice", SERVICE, SCOPE]);
    await until("the access line", () => weir.output().includes('"account":"alice"'));
    await expect(copy(mayNot, ...alice)).rejects.toThrow(/unauthorized|authentication required|denied/i);
    for (const options of [["--src-creds", "alice:wrong"], []]) {
      await expect(copy(may, ...options)).rejects.toThrow(/unauthorized|authentication required|denied|401/i);
    }
  },
  TIMEOUT_MS,
);

toolTest(
  CONTAINERD_TOOLS,
  "containerd, by the signer's certificate: ctr with a user, with another, and for what the server does not grant",
  async () => {
    const { lab, server, may, mayNot } = await world("x5c");
    const containerd = await startContainerd(stack, lab);
    const pull = (image: string, user: string) => containerd.pull(image, ["--plain-http", "--user", user]);
    expect(await pull(may, `alice:${PASSWORD}`)).toBe(IMAGE.root.digest);
    expect(server.asked).toContainEqual(["alice", SERVICE, SCOPE]);
    const refused = /401|authorization failed|insufficient_scope|unauthorized/i;
    await expect(pull(mayNot, `alice:${PASSWORD}`)).rejects.toThrow(refused);
    await expect(pull(may, "mallory:guessed")).rejects.toThrow(refused);
  },
  TIMEOUT_MS,
);
