/** Reads what OTLP's `ExportTraceServiceRequest` holds (opentelemetry-proto 1.x), without the SDK's help. */

export type OtlpValue = string | number | boolean | readonly OtlpValue[] | undefined;

export type OtlpAttributes = Readonly<Record<string, OtlpValue>>;

export interface OtlpSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty where there is none. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  readonly kind: "unspecified" | "internal" | "server" | "client" | "producer" | "consumer";
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: OtlpAttributes;
  readonly events: readonly { readonly name: string; readonly attributes: OtlpAttributes }[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly status: "unset" | "ok" | "error";
  readonly message: string;
}

export type OtlpResource = OtlpAttributes;

export interface OtlpTraces {
  readonly resource: OtlpResource;
  readonly scope: string;
  readonly spans: readonly OtlpSpan[];
}

const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"] as const;
const STATUSES = ["unset", "ok", "error"] as const;

export function decodeTraces(body: Uint8Array): readonly OtlpTraces[] {
  return messages(fieldsOf(body), 1).flatMap((resourceSpans) => {
    const resource = attributes(messages(resourceSpans, 1).flatMap((each) => messages(each, 1)));
    return messages(resourceSpans, 2).map((scopeSpans) => ({
      resource,
      scope: messages(scopeSpans, 1)
        .map((each) => text(each, 1))
        .join(),
      spans: messages(scopeSpans, 2).map(span),
    }));
  });
}

function span(fields: Fields): OtlpSpan {
  const [status = new Map()] = messages(fields, 15);
  return {
    traceId: hex(fields, 1),
    spanId: hex(fields, 2),
    traceState: text(fields, 3),
    parentSpanId: hex(fields, 4),
    name: text(fields, 5),
    kind: KINDS[Number(number(fields, 6))] ?? "unspecified",
    startNs: number(fields, 7),
    endNs: number(fields, 8),
    attributes: attributes(messages(fields, 9)),
    events: messages(fields, 11).map((each) => ({ name: text(each, 2), attributes: attributes(messages(each, 3)) })),
    links: messages(fields, 13).map((each) => ({ traceId: hex(each, 1), spanId: hex(each, 2) })),
    status: STATUSES[Number(number(status, 3))] ?? "unset",
    message: text(status, 2),
  };
}

function attributes(pairs: readonly Fields[]): OtlpAttributes {
  return Object.fromEntries(pairs.map((pair) => [text(pair, 1), messages(pair, 2).map(anyValue)[0]]));
}

function anyValue(fields: Fields): OtlpValue {
  if (fields.has(1)) return text(fields, 1);
  if (fields.has(2)) return number(fields, 2) !== 0n;
  if (fields.has(3)) return Number(BigInt.asIntN(64, number(fields, 3)));
  if (fields.has(4)) return Number(new DataView(bigintBytes(number(fields, 4))).getFloat64(0, true));
  if (fields.has(5)) return messages(fields, 5).flatMap((list) => messages(list, 1).map(anyValue));
  return undefined;
}

function bigintBytes(bits: bigint): ArrayBuffer {
  const bytes = new ArrayBuffer(8);
  new DataView(bytes).setBigUint64(0, bits, true);
  return bytes;
}

/** Field number to its values: numbers, or bytes (texts and messages). */
type Fields = ReadonlyMap<number, readonly (bigint | Uint8Array)[]>;

/** One message of Protocol Buffers' wire format. */
function fieldsOf(bytes: Uint8Array): Fields {
  const fields = new Map<number, (bigint | Uint8Array)[]>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = view.getUint8(at);
      at += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const taken = (length: number): number => {
    at += length;
    if (at > bytes.length) throw new RangeError("a field goes beyond its message");
    return at - length;
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const field = key >> 3;
    const values = fields.get(field) ?? [];
    fields.set(field, values);
    switch (key & 7) {
      case 0:
        values.push(varint());
        break;
      case 1:
        values.push(view.getBigUint64(taken(8), true));
        break;
      case 2: {
        const length = Number(varint());
        const start = taken(length);
        values.push(bytes.subarray(start, start + length));
        break;
      }
      case 5:
        values.push(BigInt(view.getUint32(taken(4), true)));
        break;
      default:
        throw new TypeError(`no wire type ${key & 7}`);
    }
  }
  return fields;
}

function messages(fields: Fields, field: number): readonly Fields[] {
  return (fields.get(field) ?? []).map((value) => fieldsOf(bytesIn(value)));
}

function number(fields: Fields, field: number): bigint {
  const value = fields.get(field)?.at(-1) ?? 0n;
  if (typeof value !== "bigint") throw new TypeError(`field ${field} is no number`);
  return value;
}

function text(fields: Fields, field: number): string {
  const value = fields.get(field)?.at(-1);
  return value === undefined ? "" : Buffer.from(bytesIn(value)).toString();
}

function hex(fields: Fields, field: number): string {
  const value = fields.get(field)?.at(-1);
  return value === undefined ? "" : Buffer.from(bytesIn(value)).toString("hex");
}

function bytesIn(value: bigint | Uint8Array): Uint8Array {
  if (typeof value === "bigint") throw new TypeError("a number where bytes should be");
  return value;
}
