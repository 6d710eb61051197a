import { choice, flag, later, mapping } from "./values.ts";

export const accessSchema = mapping({
  mode: choice(["anonymous"], ["htpasswd", "token", "oidc", "mtls"])
    .prefault("anonymous")
    .describe("How clients sign in: not at all."),
  privateToAnonymous: flag
    .prefault(false)
    .describe("Serves repositories that only Weir's own credential can read to everybody who reaches Weir."),
  rules: later("deciding by rules who may pull what"),
})
  .prefault({})
  .describe("Who may pull what.");
