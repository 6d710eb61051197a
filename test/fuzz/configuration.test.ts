// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
/** Configuration files that are nearly right. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc, { type Arbitrary } from "fast-check";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { ConfigError } from "../../src/config/config-error.ts";
import { ConfigSource } from "../../src/config/config-source.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { schemaKeys } from "../../src/config/schema.ts";
import { isMapping, withValueAt } from "../../src/config/tree.ts";
import { tempFolder } from "../support/processes.ts";
import { CAMPAIGN_MS, campaign } from "./campaign.ts";
import { bytes, mutated, oneOf } from "./texts.ts";

const EXAMPLE = await readFile(new URL("../../config/weir.example.yaml", import.meta.url), "utf8");

const SECRET = "a-secret-that-no-message-repeats";
const ENV = { TOKEN: SECRET, EMPTY: "" };

const text = oneOf(
  [
    ...[
      "",
      " ",
      "10m",
      "-1s",
      "1e9s",
      "99999999999d",
      "4MiB",
      "0",
      "-0",
      "1e400",
      "true",
      "null",
      "none",
      "auto",
      "memory",
    ],
    ...[
      "127.0.0.1:5000",
      ":0",
      ":99999",
      "[::1]:1",
      "[::1",
      "10.0.0.0/8",
      "::/129",
      "https://a.example",
      "http://a:b@c/d?e#f",
    ],
    ...[
      "**",
      "{a,b",
      "[!",
      "**:/(a+)+$/",
      "**:/[/",
      "library/*:/v\\d+/",
      "quay.io",
      "a..b",
      "a:b:c",
      "*.example",
      "é.example",
    ],
    ...[
      "${TOKEN}",
      "${EMPTY}",
      "${NOWHERE}",
      "${EMPTY:-x}",
      "${",
      "$${",
      "${file:}",
      "${file:/nowhere}",
      "${__proto__}",
    ],
    ...["__proto__", "constructor", "toString", "x".repeat(70_000), "\0", "\uD800"],
  ],
  bytes(20),
);

const plain: Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: text },
  {
    weight: 1,
    arbitrary: fc.constantFrom(null, true, false, 0, -1, 1.5, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY),
  },
  { weight: 1, arbitrary: fc.array(text, { maxLength: 3 }) },
  { weight: 1, arbitrary: fc.dictionary(text, text, { maxKeys: 3 }) },
);

const NAMES = ["docker.io", "quay.io", "registry.example:5000", "DOCKER.IO", "__proto__"];

/** A key that there is, or nearly. */
const place: Arbitrary<readonly string[]> = fc
  .tuple(fc.constantFrom(...schemaKeys().map(({ path }) => path)), oneOf(NAMES, text), text, fc.nat(9))
  .map(([path, name, stranger, turn]) => {
    const named = path.map((step) => (step === "<name>" ? name : step)).filter((step) => step !== "[]");
    return turn === 0 ? [...named.slice(0, -1), stranger] : turn === 1 ? named.slice(0, -1) : named;
  })
  .filter((path) => path.length > 0);

const tree = fc
  .array(fc.tuple(place, plain), { minLength: 1, maxLength: 6 })
  .map((values) => values.reduce<unknown>((whole, [path, value]) => withValueAt(whole, path, value), {}));

function judge(input: unknown, env: NodeJS.ProcessEnv): void {
  const result = parseConfig(input, env, "/srv/weir");
  if (result.ok) {
    expect(Object.isFrozen(result.config)).toBe(true);
    return;
  }
  expect(result.problems.length).toBeGreaterThan(0);
  for (const { path, message } of result.problems) {
    expect([typeof path, message.length > 0]).toEqual(["string", true]);
    expect(message).not.toContain(SECRET);
  }
}

test(
  "whatever stands under whatever key is taken, or refused with sentences that hold no secret",
  () => {
    fc.assert(
      fc.property(tree, (input) => judge(input, ENV)),
      campaign<[unknown]>(150, [
        [{ access: { mode: "${TOKEN}" } }],
        [{ storage: { filesystem: { shared: { toString: "" } } }, server: { workers: { toString: "" } } }],
      ]),
    );
  },
  CAMPAIGN_MS,
);

test(
  "and so is what variables say",
  () => {
    const variable = oneOf(
      ["WEIR_SERVER_LISTEN", "WEIR_ADMIN_TOKEN", "WEIR_UPSTREAM_QUAY_IO_USERNAME", "WEIR_", "WEIR_UPSTREAM__PASSWORD"],
      bytes(8).map((end) => `WEIR_${end}`),
    );
    fc.assert(
      fc.property(fc.dictionary(variable, text, { maxKeys: 4 }), (env) => judge({}, { ...ENV, ...env })),
      campaign(80),
    );
  },
  CAMPAIGN_MS,
);

test(
  "a file of any bytes is taken, or refused as a configuration is",
  async () => {
    await using stack = new AsyncDisposableStack();
    const cwd = await tempFolder(stack);
    const file = join(cwd, "weir.yaml");
    const alive = EXAMPLE.replaceAll(/^ *#.*\n/gm, "");
    expect(isMapping(parse(alive))).toBe(true);
    const yaml = oneOf(
      [
        "&a [*a]",
        "a: &a [b]\nb: [*a,*a,*a,*a]",
        "<<: {}",
        "!!binary x",
        "- a",
        "server: !x {}",
        "\t",
        "%YAML 9.9\n---\n",
      ],
      fc.oneof(mutated(fc.constant(alive), text), bytes(100)),
    );
    await fc.assert(
      fc.asyncProperty(yaml, async (content) => {
        await writeFile(file, content, "latin1");
        await new ConfigSource({ file, env: ENV, cwd }).load().catch((error: unknown) => {
          expect(error).toBeInstanceOf(ConfigError);
        });
      }),
      campaign(80),
    );
  },
  CAMPAIGN_MS,
);
