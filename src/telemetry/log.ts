import { type DestinationStream, type Logger, destination as openDestination, pino, stdTimeFunctions } from "pino";
import type { Log } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import type { TelemetryConfig } from "../config/types.ts";
import { type FlushableStream, GatheredLines } from "./gathered-lines.ts";
import { PlainLines } from "./plain-lines.ts";

export interface LogOptions {
  readonly level: TelemetryConfig["logLevel"];
  /** Takes whole lines; standard output if left out, where lines are written behind the request, some milliseconds' together. */
  readonly destination?: DestinationStream;
}

/** A log whose level can change while it is in use. */
export interface LevelledLog extends Log {
  setLevel(level: TelemetryConfig["logLevel"]): void;
}

/** Causes of causes further down have never explained anything yet, and an endless chain must end. */
const MAX_CAUSES = 4;

/**
 * JSON lines: `time` (ISO), `level`, the fields, `msg`. Secrets come out as stars. Errors come out as their type, code and
 * message with their causes; the stack only at level `debug`.
 */
export function createLog({ level, destination }: LogOptions): LevelledLog {
  const stream = destination ?? new GatheredLines(openStandardOutput());
  const plain = new PlainLines(Date.now);
  const logger: Logger = pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => printableFields(fields, logger.isLevelEnabled("debug")),
      },
      // Pino has ideas of its own about a field of this name; by then the formatter has described the error.
      serializers: { err: (described: unknown) => described },
    },
    stream,
  );
  let isInfoOn = logger.isLevelEnabled("info");
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info(fields, message) {
      if (!isInfoOn) return;
      const line = plain.line("info", fields, message);
      if (line === undefined) logger.info(fields, message);
      else stream.write(line);
    },
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    infoText(members, message) {
      if (isInfoOn) stream.write(plain.wrap("info", members(), message));
    },
    setLevel(next) {
      logger.level = next;
      isInfoOn = logger.isLevelEnabled("info");
    },
  };
}

/** For bytes, which Pino's own types do not know of. */
function openStandardOutput(): FlushableStream {
  return openDestination({ dest: 1, sync: false, contentMode: "buffer" }) as unknown as FlushableStream;
}

function printableFields(fields: Record<string, unknown>, withStack: boolean): Record<string, unknown> {
  // Most lines have neither.
  if (!Object.values(fields).some((value) => value instanceof Error || value instanceof Secret)) return fields;
  const printed: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Error) {
      printed[name] = describeError(value, withStack, MAX_CAUSES);
    } else {
      printed[name] = value instanceof Secret ? String(value) : value;
    }
  }
  return printed;
}

function describeError(err: Error, withStack: boolean, causes: number): Record<string, unknown> {
  const { cause } = err;
  return {
    type: err.name,
    ...("code" in err ? { code: err.code } : {}),
    message: err.message,
    ...(cause instanceof Error && causes > 0 ? { cause: describeError(cause, withStack, causes - 1) } : {}),
    ...(withStack ? { stack: err.stack } : {}),
  };
}
