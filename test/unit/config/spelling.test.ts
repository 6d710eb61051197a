import { expect, test } from "vitest";
import { closest } from "../../../src/config/spelling.ts";

test.each([
  ["listne", ["token", "listen"], "listen"],
  ["Listen", ["listen"], "listen"],
  ["upstream", ["server", "upstreams"], "upstreams"],
  ["maxConections", ["maxConnections", "realms"], "maxConnections"],
  ["tl", ["tls"], undefined],
  ["abc", ["xyz"], undefined],
  ["zzzzzz", ["server"], undefined],
  ["", ["a"], undefined],
  ["serve", [], undefined],
])("%s among %j is %s", (word, known, expected) => {
  expect(closest(word, known)).toBe(expected);
});
