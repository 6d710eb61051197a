/** Real clients, by TLS, in front of the shipped config/nginx/accel.conf. */
import { copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { createAuthority } from "../support/certificates.ts";
import { createPodman, PODMAN_TOOLS, SKOPEO_TOOLS, skopeoCopy } from "../support/engines.ts";
import { bigImage, push } from "../support/images.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { httpRequest } from "../support/network.ts";
import { shippedNginx, startNginx } from "../support/nginx.ts";
import { tempFolder, until } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const TIMEOUT_MS = 480_000;
const LAYER_BYTES = 4 << 20;
const IMAGE = bigImage("nginx e2e", LAYER_BYTES);

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

interface World {
  readonly lab: Lab;
  readonly weir: WeirProcess;
  /** `HOST:PORT` of nginx. */
  readonly host: string;
  readonly caFile: string;
}

async function world(): Promise<World> {
  const lab = await createLab(stack);
  const origin = await startRegistry(stack, { network: lab });
  await push(origin.url, "team/big", "1", IMAGE, lab);
  const listen = `127.0.0.1:${await lab.freePort()}`;
  const weir = await startWeir(stack, {
    network: lab,
    config: {
      server: { listen, workers: 1, trustedProxies: ["127.0.0.1"], accelRedirect: "/internal-blobs/" },
      upstreams: { "quay.io": { type: "generic", endpoints: [origin.url] } },
    },
  });
  const authority = await createAuthority(stack);
  const { certFile, keyFile } = await authority.issue(["127.0.0.1"]);
  const port = await lab.freePort();
  const http = await shippedNginx("accel.conf", {
    "server 127.0.0.1:5000;": `server ${listen};`,
    "listen 443 ssl;": `listen 127.0.0.1:${port} ssl;`,
    "listen [::]:443 ssl;": "",
    "/etc/nginx/tls/weir.crt": certFile,
    "/etc/nginx/tls/weir.key": keyFile,
    "alias /var/lib/weir/": `alias ${weir.root}/`,
  });
  await startNginx(stack, { http, port, network: lab });
  return { lab, weir, host: `127.0.0.1:${port}`, caFile: authority.caFile };
}

async function metric({ lab, weir }: World, name: string): Promise<number> {
  const { body } = await httpRequest(`${weir.adminUrl}/metrics`, { network: lab });
  return Number(new RegExp(`^${name} (\\d+)$`, "m").exec(body.toString())?.[1] ?? 0);
}

/** Bytes. */
const handedOver = (at: World): Promise<number> =>
  metric(at, 'weir_http_handed_over_bytes_total\\{upstream="quay.io"\\}');

/** What was downloaded is kept, and so can be handed over. */
async function kept(at: World): Promise<void> {
  await until("the downloads to be kept", async () => (await metric(at, "weir_fills_in_flight")) === 0);
}

toolTest(
  [...SKOPEO_TOOLS, "nginx"],
  "skopeo: what is held comes from nginx, and its certificate is looked at",
  async () => {
    const at = await world();
    const certs = await tempFolder(stack);
    await copyFile(at.caFile, join(certs, "ca.crt"));
    const image = `${at.host}/quay.io/team/big:1`;
    const verified = ["--src-tls-verify=true", "--src-cert-dir", certs];
    expect(await skopeoCopy(stack, at.lab, image, verified)).toBe(IMAGE.root.digest);
    await kept(at);
    // What was not seen to be whole while it came is by the second pull.
    for (let i = 0; i < 2; i += 1) {
      expect(await skopeoCopy(stack, at.lab, image, verified)).toBe(IMAGE.root.digest);
    }
    expect(await handedOver(at)).toBeGreaterThanOrEqual(LAYER_BYTES);
    expect(at.lab.fallbacks).toEqual([]);
  },
  TIMEOUT_MS,
);

toolTest(
  [...PODMAN_TOOLS, "nginx"],
  "podman: what is held comes from nginx, to a client that has nothing",
  async () => {
    const at = await world();
    const registriesConf = join(await tempFolder(stack), "registries.conf");
    await writeFile(registriesConf, `[[registry]]\nlocation = "${at.host}"\ninsecure = true\n`);
    const image = `${at.host}/quay.io/team/big:1`;
    for (const handed of [0, 0, LAYER_BYTES]) {
      const podman = await createPodman(stack, at.lab, { registriesConf });
      expect(await podman.pull(image)).toBe(IMAGE.root.digest);
      await kept(at);
      expect(await handedOver(at)).toBeGreaterThanOrEqual(handed);
    }
    expect(at.lab.fallbacks).toEqual([]);
  },
  TIMEOUT_MS,
);
