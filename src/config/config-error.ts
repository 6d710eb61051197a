/** One thing that is wrong with the configuration. Never holds a secret's value. */
export interface ConfigProblem {
  /** Where: a key (`upstreams["docker.io"].type`), a variable (`WEIR_…`) or a place in the file (`weir.yaml:3:5`). */
  readonly path: string;
  readonly message: string;
}

/** The configuration cannot be used; `problems` has everything that is wrong with it, not only the first thing. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
    super([`the configuration has ${count}:`, ...problems.map((p) => `${p.path}: ${p.message}`)].join("\n  "));
    this.problems = problems;
  }
}
