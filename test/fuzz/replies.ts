/** What every answer of Weir must be, whatever was asked. */
import { connect } from "node:net";

export interface Reply {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** So long after the last byte that came it is taken that no more will, milliseconds. Not to be waited for where answers count. */
const QUIET_MS = 40;

/**
 * Sends bytes and reads to the end of the connection, which has to come. Undefined where nothing was answered.
 *
 * @param o.closes the answer ends the connection; where it may not, the end of the bytes is told when it has become quiet
 */
export async function exchange(
  port: number,
  bytes: Uint8Array,
  { closes }: { readonly closes: boolean },
): Promise<Reply | undefined> {
  const socket = connect(port, "127.0.0.1");
  const quiet = closes ? undefined : setTimeout(() => socket.end(), QUIET_MS);
  let text = "";
  socket.setEncoding("latin1");
  socket.on("data", (part: string) => {
    text += part;
    quiet?.refresh();
  });
  socket.on("error", () => {});
  socket.write(bytes);
  await new Promise((resolve) => socket.once("close", resolve));
  clearTimeout(quiet);
  return parse(text);
}

function parse(text: string): Reply | undefined {
  if (text === "") return undefined;
  const end = text.indexOf("\r\n\r\n");
  const [first = "", ...lines] = text.slice(0, end).split("\r\n");
  const status = /^HTTP\/1\.1 (\d{3}) [\w' -]+$/.exec(first)?.[1];
  if (end === -1 || status === undefined) throw new Error(`this is no answer: ${JSON.stringify(text.slice(0, 200))}`);
  const headers = new Map(
    lines.map((line): [string, string] => {
      const at = line.indexOf(": ");
      return [line.slice(0, at).toLowerCase(), line.slice(at + 2)];
    }),
  );
  const rest = text.slice(end + 4);
  return { status: Number(status), headers, body: rest.slice(0, Number(headers.get("content-length") ?? rest.length)) };
}

const CODE = /^[A-Z]+(?:_[A-Z]+)*$/;

/** Throws with a sentence where an answer is not one that Weir may give. */
export function judge({ status, headers, body }: Reply, head: boolean, trouble: readonly number[] = []): void {
  const shown = `${status} ${JSON.stringify(body.slice(0, 300))}`;
  if (status >= 500 && !trouble.includes(status)) throw new Error(`the server blames itself: ${shown}`);
  if (status < 400) return;
  if (headers.get("docker-distribution-api-version") !== "registry/2.0") throw new Error(`not a registry's: ${shown}`);
  if (headers.get("x-request-id") === undefined) throw new Error(`without a request id: ${shown}`);
  if (status === 416) return;
  if (headers.get("content-type") !== "application/json") throw new Error(`not JSON: ${shown}`);
  if (head) return;
  const { errors } = JSON.parse(Buffer.from(body, "latin1").toString("utf8"));
  const [error] = errors;
  if (errors.length !== 1 || !CODE.test(error.code) || error.code === "UNKNOWN" || typeof error.message !== "string") {
    throw new Error(`not the envelope: ${shown}`);
  }
}
