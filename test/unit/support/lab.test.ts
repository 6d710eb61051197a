import { createServer } from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLab, LAB_TOOLS } from "../../support/lab.ts";
import { httpRequest } from "../../support/network.ts";
import { run } from "../../support/processes.ts";
import { missing, tool, toolTest } from "../../support/tools.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

toolTest(
  LAB_TOOLS,
  "a server of the test's process is reached from inside and by requests from the test only",
  async () => {
    const lab = await createLab(stack);
    const server = createServer((request, response) => response.end(`seen ${request.url}`));
    const port = await lab.listen(server, "127.0.0.2", 0);
    stack.defer(() => {
      server.closeAllConnections();
      server.close();
    });
    const url = `http://127.0.0.2:${port}/a`;
    expect((await httpRequest(url, { network: lab })).body.toString()).toBe("seen /a");
    const program = `fetch("${url}").then((r) => r.text()).then((t) => process.stdout.write(t))`;
    expect((await run(lab.command([process.execPath, "-e", program]))).stdout).toBe("seen /a");
    await expect(httpRequest(url)).rejects.toThrow();
  },
);

toolTest(
  [...LAB_TOOLS, "curl"],
  "a client that goes to a public registry is seen, and fails the test at its end",
  async () => {
    const inner = new AsyncDisposableStack();
    const lab = await createLab(inner);
    await run(lab.command(["curl", "-s", "--cacert", lab.env.SSL_CERT_FILE ?? "", "https://quay.io/v2/"]));
    await run(lab.command(["curl", "-s", "https://registry-1.docker.io/v2/"]), { allowFailure: true });
    expect(lab.fallbacks[0]).toBe("GET https://quay.io/v2/");
    expect(lab.fallbacks[1]).toMatch(/^TLS to registry-1\.docker\.io: /);
    await expect(inner.disposeAsync()).rejects.toThrow(/a client went past the cache:\nGET https:\/\/quay\.io\/v2\//);
  },
);

toolTest(LAB_TOOLS, "nothing is left of it, whatever still ran inside", async () => {
  const inner = new AsyncDisposableStack();
  const lab = await createLab(inner);
  await run(lab.command(["sh", "-c", "sleep 600 >/dev/null 2>&1 & :"]));
  expect((await run(["ip", "netns", "pids", lab.name])).stdout.trim()).not.toBe("");
  await inner.disposeAsync();
  expect((await run(["ip", "netns", "list"])).stdout).not.toContain(lab.name);
});

test("a program that is not installed is named", () => {
  expect(tool("weir-no-such-program")).toBeUndefined();
  expect(missing(["node", "weir-no-such-program"])).toBe("weir-no-such-program is not installed");
  expect(missing(["node"])).toBeUndefined();
});
