/** What tells of a step: short texts, numbers and instants (milliseconds since the epoch), and never a secret. */
export type StepFields = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * Takes down what is done on behalf of one request, for `weir explain --request`. Work that is shared is told of in the trail
 * of whoever began it; who joins it says so. Never throws.
 */
export interface Trail {
  /** Something that takes no time worth telling. */
  note(step: string, fields: StepFields): void;
  /** Something that goes on from now until it is ended. */
  begin(step: string, fields: StepFields): OpenStep;
}

export interface OpenStep {
  /** It is over, and this is what it came to. The first call counts. */
  end(fields: StepFields): void;
  /** What is learnt of it, perhaps after its end. */
  add(fields: StepFields): void;
}
