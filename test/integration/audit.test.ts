import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { run, tempFolder } from "../support/processes.ts";

/** What the script makes of a registry that answers the audit so; undefined = there is none. */
async function audit(
  answer: ((res: ServerResponse) => void) | undefined,
): Promise<{ code: number | null; text: string }> {
  await using stack = new AsyncDisposableStack();
  const server = createServer((req, res) => {
    if (req.method === "POST" && req.url?.endsWith("/advisories/bulk")) answer?.(res);
    else res.writeHead(404).end("{}");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    server.close();
    await once(server, "close");
  };
  if (answer === undefined) await close();
  else stack.defer(close);
  const { code, stdout } = await run([process.execPath, "scripts/audit.ts"], {
    env: {
      npm_config_registry: `http://127.0.0.1:${port}`,
      npm_config_cache: await tempFolder(stack),
      NO_PROXY: "127.0.0.1",
    },
    allowFailure: true,
  });
  return { code, text: stdout };
}

const json = (body: unknown) => (res: ServerResponse) => {
  res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
};

const advisory = (severity: string) => ({
  koa: [{ id: 1, url: "https://advisories.example/1", title: "planted", severity, vulnerable_versions: "*" }],
});

test("a finding fails, and is named", async () => {
  const { code, text } = await audit(json(advisory("high")));
  expect([code, text]).toEqual([1, expect.stringMatching(/^koa.*: high$/m)]);
});

test("a finding of little weight does not", async () => {
  const { code, text } = await audit(json(advisory("low")));
  expect([code, text]).toEqual([0, "the dependencies were audited: 0 of high or critical severity\n"]);
});

test("nothing found is fine", async () => {
  expect(await audit(json({}))).toMatchObject({ code: 0, text: expect.stringContaining("were audited: 0") });
});

test.each([
  ["has no audit", (res: ServerResponse) => void res.writeHead(405, { allow: "GET,HEAD" }).end()],
  ["cannot be reached", undefined],
])("a registry that %s is told of, and fails nothing", async (_, answer) => {
  expect(await audit(answer)).toMatchObject({ code: 0, text: expect.stringContaining("were not audited: ") });
});
