/** A command cannot get at the storage; the message says what to do. */
export class ControlError extends Error {
  override readonly name = "ControlError";
}
