import type { IncomingMessage } from "node:http";
import { OciError } from "../../oci/errors.ts";

/** A token, a reference and what proves the form: some hundred bytes. */
const MAX_FORM_BYTES = 16 * 1024;

/** The fields of a form, as browsers send it. @throws OciError for what is too large or something else */
export async function readForm(req: IncomingMessage): Promise<URLSearchParams> {
  const [type = ""] = (req.headers["content-type"] ?? "").split(";");
  if (type.trim().toLowerCase() !== "application/x-www-form-urlencoded") {
    throw new OciError("UNSUPPORTED", "expected a form (application/x-www-form-urlencoded)", { status: 415 });
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_FORM_BYTES) {
      throw new OciError("UNSUPPORTED", `the form exceeds ${MAX_FORM_BYTES} bytes`, { status: 413 });
    }
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
}
