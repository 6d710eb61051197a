/** A signed request to an AWS API, as every SDK sends it. */
import { createHash, createHmac } from "node:crypto";
import { httpRequest } from "../../../support/network.ts";

export async function callAws(
  url: string,
  target: string,
  key: { readonly id: string; readonly secret: string; readonly region: string; readonly service: string },
): Promise<{ status: number; headers: Readonly<Record<string, unknown>>; json: Record<string, unknown> }> {
  const body = "{}";
  const date = "20260901";
  const headers: Record<string, string> = {
    "content-type": "application/x-amz-json-1.1",
    host: new URL(url).host,
    "x-amz-date": `${date}T100000Z`,
    "x-amz-target": target,
  };
  const names = Object.keys(headers).join(";");
  const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
  const mac = (secret: string | Buffer, text: string): Buffer => createHmac("sha256", secret).update(text).digest();
  const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const canonical = `POST\n/\n\n${lines.join("")}\n${names}\n${hash(body)}`;
  const scope = `${date}/${key.region}/${key.service}/aws4_request`;
  const signing = mac(mac(mac(mac(`AWS4${key.secret}`, date), key.region), key.service), "aws4_request");
  const toSign = `AWS4-HMAC-SHA256\n${headers["x-amz-date"]}\n${scope}\n${hash(canonical)}`;
  const signature = mac(signing, toSign).toString("hex");
  const authorization = `AWS4-HMAC-SHA256 Credential=${key.id}/${scope}, SignedHeaders=${names}, Signature=${signature}`;
  const reply = await httpRequest(`${url}/`, { method: "POST", body, headers: { ...headers, authorization } });
  return { status: reply.status, headers: reply.headers, json: JSON.parse(reply.body.toString()) };
}
