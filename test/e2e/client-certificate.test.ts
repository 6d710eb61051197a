/** The whole product behind TLS, with an authority for clients: containerd that has a certificate, and clients that speak HTTP/2. */
import { readFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { type Duplex, pipeline } from "node:stream";
import { connect } from "node:tls";
import { afterEach, beforeEach, expect } from "vitest";
import { type Authority, type Certificate, createAuthority } from "../support/certificates.ts";
import { CONTAINERD_TOOLS, startContainerd } from "../support/engines.ts";
import { push, sha256, smallImage } from "../support/images.ts";
import { createLab, LAB_TOOLS, type Lab } from "../support/lab.ts";
import { run, tempFolder, until } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;
const IMAGE = smallImage("client-certificate");

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

interface World {
  readonly lab: Lab;
  readonly authority: Authority;
  /** `https://127.0.0.1:PORT` */
  readonly url: string;
  /** Of the account that the rules let in. */
  readonly node: Certificate;
  output(): string;
}

async function world(): Promise<World> {
  const lab = await createLab(stack);
  const origin = await startRegistry(stack, { network: lab });
  await push(origin.url, "team/small", "1", IMAGE, lab);
  const authority = await createAuthority(stack);
  const { certFile, keyFile } = await authority.issue(["127.0.0.1"]);
  const listen = `127.0.0.1:${await lab.freePort()}`;
  const weir = await startWeir(stack, {
    network: lab,
    config: {
      server: { listen, workers: 1, tls: { cert: certFile, key: keyFile, clientCa: authority.caFile } },
      upstreams: { "quay.io": { type: "generic", endpoints: [origin.url] } },
      access: { mode: "mtls", mtls: { account: "cn" }, rules: [{ effect: "allow", accounts: ["node1"] }] },
    },
  });
  const node = await authority.issue(["node1.example"], { subject: "/O=Example/CN=node1" });
  return { lab, authority, url: `https://${listen}`, node, output: () => weir.output() };
}

toolTest(
  CONTAINERD_TOOLS,
  "containerd with a certificate in hosts.toml; with another account's, with one of an authority that does not count, with none",
  async () => {
    const { lab, authority, url, node, output } = await world();
    const containerd = await startContainerd(stack, lab);
    const pull = async (client: Certificate | undefined): Promise<string> => {
      const shown = client === undefined ? "" : `client = [["${client.certFile}", "${client.keyFile}"]]`;
      const hosts = await containerd.hostsDir(
        "quay.io",
        `server = "${url}"
ca = "${authority.caFile}"
[host."${url}"]
  capabilities = ["pull", "resolve"]
  ca = "${authority.caFile}"
  ${shown}
`,
      );
      return await containerd.pull("quay.io/team/small:1", ["--hosts-dir", hosts]);
    };
    for (const client of [
      undefined,
      await authority.issue(["node2.example"], { subject: "/O=Example/CN=node2" }),
      await (await createAuthority(stack)).issue(["node1.example"], { subject: "/O=Example/CN=node1" }),
    ]) {
      await expect(pull(client)).rejects.toThrow(/403|tls: /i);
    }
    expect(output()).not.toContain('"account":"node1"');
    expect(await pull(node)).toBe(IMAGE.root.digest);
    await until("the access line", () => output().includes('"account":"node1"'));
    expect(lab.fallbacks).toEqual([]);
  },
  TIMEOUT_MS,
);

/** Does TLS for a client that offers HTTP/1.1 beside HTTP/2 whenever it does TLS itself. Resolves with where it is to be asked. */
async function onlyHttp2({ lab, authority, url }: World, client: Certificate | undefined): Promise<string> {
  const { hostname, port } = new URL(url);
  const ca = await readFile(authority.caFile);
  const shown = client === undefined ? {} : { cert: client.cert, key: client.key };
  const sockets: Duplex[] = [];
  const server = createServer(async (near) => {
    const socket = await lab.connect(hostname, Number(port));
    const far = connect({ socket, ca, ...shown, host: hostname, ALPNProtocols: ["h2"] });
    sockets.push(near, far);
    pipeline(near, far, near, () => {});
  });
  const at = await lab.listen(server, "127.0.0.1", 0);
  stack.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${at}`;
}

toolTest(
  [...LAB_TOOLS, "curl"],
  "curl: HTTP/2 where nothing else is offered, HTTP/1.1 where both are; the same bytes, and the same account",
  async () => {
    const of = await world();
    const { lab, authority, url, node, output } = of;
    const folder = await tempFolder(stack);
    /** The version, the status, and the digest of what came. */
    const curl = async (at: string, ...options: readonly string[]): Promise<readonly string[]> => {
      const out = join(folder, "out");
      const { stdout } = await run(
        lab.command([
          ...["curl", "--silent", "--show-error", "--cacert", authority.caFile, "--output", out],
          ...["--write-out", "%{http_version} %{response_code}", ...options, at],
        ]),
      );
      return [...stdout.split(" "), sha256(await readFile(out))];
    };
    const team = "/v2/quay.io/team/small";
    const certified = await onlyHttp2(of, node);
    const wanted = [
      { path: `${team}/manifests/1`, digest: IMAGE.root.digest },
      ...IMAGE.blobs.map(({ digest }) => ({ path: `${team}/blobs/${digest}`, digest })),
    ];
    for (const { path, digest } of wanted) {
      expect(await curl(certified + path, "--http2-prior-knowledge")).toEqual(["2", "200", digest]);
      const both = ["--http2", "--cert", node.certFile, "--key", node.keyFile];
      expect(await curl(url + path, ...both)).toEqual(["1.1", "200", digest]);
    }
    const nobody = await onlyHttp2(of, undefined);
    const refused = await curl(`${nobody}${team}/manifests/1`, "--http2-prior-knowledge");
    expect(refused.slice(0, 2)).toEqual(["2", "403"]);
    await until("the access line", () => output().includes('"account":"node1"'));
  },
  TIMEOUT_MS,
);
