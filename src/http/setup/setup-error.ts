/** Why there is no configuration for a client, in a sentence that says what to do instead. */
export class SetupError extends Error {
  override readonly name = "SetupError";
}
