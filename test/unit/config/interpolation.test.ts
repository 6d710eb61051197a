// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { interpolate } from "../../../src/config/interpolate.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import { passwordOf } from "../../support/credentials.ts";
import { tempFolder } from "../../support/processes.ts";

function replaced(text: string, env: NodeJS.ProcessEnv = {}, cwd = "/"): { text: string; problems: string[] } {
  const problems: string[] = [];
  const sources = { env, cwd, opening: () => {} };
  return { text: interpolate(text, sources, (message) => problems.push(message)), problems };
}

describe("variables", () => {
  const env = { USER_NAME: "me", EMPTY: "", TRICKY: "${USER_NAME}", $: "no" };
  test.each([
    ["plain", "plain"],
    ["${USER_NAME}", "me"],
    ["x-${USER_NAME}-${USER_NAME}-y", "x-me-me-y"],
    ["${NOPE:-fallback}", "fallback"],
    ["${EMPTY:-fallback}", "fallback"],
    ["${NOPE:-}", ""],
    ["${EMPTY}", ""],
    ["${USER_NAME:-fallback}", "me"],
    ["${NOPE:-a:-b/c}", "a:-b/c"],
    // What is put in is not looked at again.
    ["${TRICKY}", "${USER_NAME}"],
    ["$${USER_NAME}", "${USER_NAME}"],
    ["$$${USER_NAME}", "$${USER_NAME}"],
    ["5$ and $USER_NAME and {x}", "5$ and $USER_NAME and {x}"],
    [String.raw`/v\d+$/`, String.raw`/v\d+$/`],
  ])("%s becomes %s", (text, expected) => {
    expect(replaced(text, env)).toEqual({ text: expected, problems: [] });
  });

  test.each([
    ["${NOPE}", "the variable NOPE is not set"],
    ["a ${open", "without its }"],
    ["${}", "expected ${NAME}"],
    ["${1A}", "expected ${NAME}"],
    ["${hunter2 with spaces}", "expected ${NAME}"],
    ["${file:}", "names no file"],
  ])("%s is a problem", (text, expected) => {
    const { problems } = replaced(text, env);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(expected);
    expect(problems[0]).not.toContain("hunter2");
  });
});

describe("files", () => {
  test("are put in without the newline at their end", async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await tempFolder(stack);
    await writeFile(join(folder, "unix"), "se cret\n\n");
    await writeFile(join(folder, "windows"), "secret\r\n");
    await writeFile(join(folder, "bare"), "${HOME}");
    expect(replaced(`\${file:${folder}/unix}`).text).toBe("se cret\n");
    expect(replaced("[${file:windows}]", {}, folder).text).toBe("[secret]");
    expect(replaced("${file:bare}", { HOME: "x" }, folder).text).toBe("${HOME}");
  });

  test("follow the symlinks that Kubernetes makes of secrets", async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await tempFolder(stack);
    await mkdir(join(folder, "..data-1"));
    await writeFile(join(folder, "..data-1", "password"), "one");
    await symlink("..data-1", join(folder, "..data"));
    await symlink(join("..data", "password"), join(folder, "password"));
    expect(replaced("${file:password}", {}, folder).text).toBe("one");
    await rm(join(folder, "..data"));
    expect(replaced("${file:password}", {}, folder).problems).toEqual(["the file password cannot be read (ENOENT)"]);
  });

  test("that are folders or too large are problems", async () => {
    await using stack = new AsyncDisposableStack();
    const folder = await tempFolder(stack);
    await writeFile(join(folder, "large"), Buffer.alloc(64 * 1024 + 1));
    expect(replaced("${file:large}", {}, folder).problems[0]).toContain("65537 bytes");
    expect(replaced("${file:.}", {}, folder).problems[0]).toContain("EISDIR");
  });
});

describe("in a configuration", () => {
  test("a missing variable is named with its path, and is the only problem of that key", () => {
    const result = parseConfig(
      {
        server: { listen: "${LISTEN}" },
        upstreams: { "a.b": { credentials: [{ label: "x", username: "u", password: "${PW}" }] } },
      },
      {},
    );
    expect(result).toEqual({
      ok: false,
      problems: [
        { path: "server.listen", message: "the variable LISTEN is not set" },
        { path: 'upstreams["a.b"].credentials[0].password', message: "the variable PW is not set" },
      ],
    });
  });

  test("a name that is missing is not called unknown as well", () => {
    expect(parseConfig({ routing: { default: "${UPSTREAM}" } }, {})).toEqual({
      ok: false,
      problems: [{ path: "routing.default", message: "the variable UPSTREAM is not set" }],
    });
  });

  test("a value that a variable put in is not repeated when it is wrong", () => {
    const result = parseConfig({ server: { listen: "${LISTEN}" } }, { LISTEN: "hunter2" });
    expect(JSON.stringify(result)).toContain('got \\"${LISTEN}\\"');
    expect(JSON.stringify(result)).not.toContain("hunter2");
  });

  test("what is put in stays text, whatever it looks like", () => {
    const result = parseConfig(
      { upstreams: { "a.b": { credentials: [{ label: "x", username: "u", password: "${PW}" }] } } },
      { PW: "007" },
    );
    expect(result.ok && passwordOf(result.config.upstreams[0]?.credentials[0])).toBe("007");
  });
});
