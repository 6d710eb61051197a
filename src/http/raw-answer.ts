import { STATUS_CODES } from "node:http";
import type { Answer } from "./answer.ts";
import { commonHeaders } from "./common-headers.ts";

/** A whole HTTP/1.1 message that ends its connection, for peers whose bytes never became a request. */
export function rawAnswer(answer: Answer, requestId: string): Buffer {
  const headers = { ...answer.headers, ...commonHeaders(answer, requestId), Connection: "close" };
  const lines = [`HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}`];
  for (const [name, value] of Object.entries(headers)) {
    lines.push(`${name}: ${value}`);
  }
  const body = answer.body instanceof Uint8Array ? answer.body : Buffer.alloc(0);
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), body]);
}
