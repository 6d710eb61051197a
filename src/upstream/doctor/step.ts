/** What is looked at, in order. */
export type StepName =
  | "dns"
  | "connect"
  | "tls"
  | "ping"
  | "clock"
  | "token"
  | "manifest"
  | "visibility"
  | "quota"
  | "blob";

/** `skipped`: something before it failed, or there was nothing to look at. A warning is no failure, yet. */
export type StepStatus = "ok" | "warning" | "failed" | "skipped";

/** What came of one step; all texts are safe to show. */
export interface Step {
  readonly name: StepName;
  /** The credential's label where the step was made with one; undefined for nobody, and where it makes no difference. */
  readonly credential: string | undefined;
  readonly status: StepStatus;
  /** What was found, in a few words. */
  readonly detail: string;
  /** A sentence that says what to do about it; with warnings and failures only. */
  readonly advice: string | undefined;
  readonly ms: number | undefined;
}

/** A step without its time: what there is to say of a finding. */
export type Verdict = Pick<Step, "status" | "detail" | "advice">;

export function good(detail: string): Verdict {
  return { status: "ok", detail, advice: undefined };
}

export function warning(detail: string, advice: string): Verdict {
  return { status: "warning", detail, advice };
}

export function failed(detail: string, advice: string): Verdict {
  return { status: "failed", detail, advice };
}

export function skipped(detail: string): Verdict {
  return { status: "skipped", detail, advice: undefined };
}
