import { z } from "zod";
import { choice, flag, later, mapping, network } from "./values.ts";

export const accessSchema = mapping({
  mode: choice(["anonymous"], ["htpasswd", "token", "oidc", "mtls"])
    .prefault("anonymous")
    .describe("How clients sign in: not at all."),
  privateToAnonymous: flag
    .prefault(false)
    .describe("Serves repositories that only Weir's own credential can read to everybody who reaches Weir."),
  allow: z
    .array(network)
    .prefault([])
    .describe("Addresses and CIDRs of clients that may come in; all of them when it is empty."),
  deny: z.array(network).prefault([]).describe("Addresses and CIDRs of clients that may not; wins over allow."),
  rules: later("deciding by rules who may pull what"),
})
  .prefault({})
  .describe("Who may pull what.");
