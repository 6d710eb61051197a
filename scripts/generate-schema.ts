import { writeFileSync } from "node:fs";
import { configJsonSchema } from "../src/config/json-schema.ts";

// Editors check config files against it; a test fails when it lags behind the schemas in src/config.
writeFileSync(
  new URL("../config/weir.schema.json", import.meta.url),
  `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`,
);
