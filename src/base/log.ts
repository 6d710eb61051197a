/** Structured logging as the parts see it; telemetry/ implements it. Fields must never hold a credential or a signed URL's query. */
export interface Log {
  debug(fields: Readonly<Record<string, unknown>>, message: string): void;
  info(fields: Readonly<Record<string, unknown>>, message: string): void;
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
  /** As `info`, with the members of the JSON object as text; they are asked for only where somebody is told. */
  infoText?(members: () => string, message: string): void;
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
