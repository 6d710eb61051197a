import { cpSync } from "node:fs";

// The compiler leaves out what it does not compile.
cpSync(new URL("../src/http/page/assets", import.meta.url), new URL("../dist/http/page/assets", import.meta.url), {
  recursive: true,
});
