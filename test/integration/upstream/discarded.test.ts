import { finished } from "node:stream/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { serve } from "./bench.ts";
import { openTransport } from "./transport-bench.ts";

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

test.for([
  ["GET", "read to its end"],
  ["HEAD", "none at all"],
] as const)("%s: a body that is thrown away, %s, is forgotten", async ([method]) => {
  const server = await serve([{ when: { path: "/gone", method }, reply: { status: 404, body: "not here" } }]);
  await using stack = new AsyncDisposableStack();
  const { transport } = openTransport(stack, { classify: () => "public" });
  const bodies: WeakRef<object>[] = [];
  for (let n = 0; n < 50; n += 1) {
    const { body, discard } = await transport.send({
      method,
      url: new URL("/gone", server.url),
      headers: {},
      lane: "documents",
      side: "own",
      signal: new AbortController().signal,
      received: () => {},
    });
    discard();
    await finished(body);
    bodies.push(new WeakRef(body));
  }
  await new Promise(setImmediate);
  collect();
  // A connection remembers the last few.
  expect(bodies.filter((body) => body.deref() !== undefined).length).toBeLessThan(10);
});
