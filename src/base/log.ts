/** Structured logging as the parts see it; telemetry/ implements it. Fields must never hold a credential or a signed URL's query. */
export interface Log {
  debug(fields: Readonly<Record<string, unknown>>, message: string): void;
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
  /** False where `info` tells nobody now: what is costly to put together need not be then. Left out where that is not known. */
  readonly isInfoOn?: boolean;
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
