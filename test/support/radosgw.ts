/**
 * A real S3 server: Ceph's radosgw in front of one monitor and one OSD that keeps its data in memory, all on 127.0.0.1 and
 * in a folder of their own. Where WEIR_TEST_S3_ENDPOINT is set, that server (MinIO, AWS) is used in its place.
 */
import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { freePort, type RunningProcess, ready, run, start, tempFolder } from "./processes.ts";

/** What {@link startS3} needs to be installed; nothing where the environment names a server. */
export const S3_TOOLS: readonly string[] =
  process.env.WEIR_TEST_S3_ENDPOINT === undefined
    ? ["radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool"]
    : [];

/** An S3 server with a bucket that the tests may write to. */
export interface S3Server {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** What the tests write begins with this. */
  readonly place: string;
}

/** Bytes that the OSD says it has, unless it is told otherwise: it holds them in memory, so the tests keep to a small part of it. */
const DEVICE_BYTES = 4 * 2 ** 30;

/** Ends with `stack`. Takes a few seconds. */
export async function startS3(
  stack: AsyncDisposableStack,
  o: { readonly deviceBytes?: number } = {},
): Promise<S3Server> {
  return fromEnvironment() ?? (await startRadosgw(stack, o.deviceBytes ?? DEVICE_BYTES));
}

function fromEnvironment(): S3Server | undefined {
  const { env } = process;
  const endpoint = env.WEIR_TEST_S3_ENDPOINT;
  if (endpoint === undefined) return undefined;
  const given = (name: string): string => {
    const value = env[name];
    if (value === undefined) throw new Error(`WEIR_TEST_S3_ENDPOINT is set, ${name} is not`);
    return value;
  };
  return {
    endpoint,
    bucket: given("WEIR_TEST_S3_BUCKET"),
    region: env.WEIR_TEST_S3_REGION ?? "us-east-1",
    accessKeyId: given("WEIR_TEST_S3_ACCESS_KEY"),
    secretAccessKey: given("WEIR_TEST_S3_SECRET_KEY"),
    place: `weir-test-${randomUUID()}`,
  };
}

async function startRadosgw(stack: AsyncDisposableStack, deviceBytes: number): Promise<S3Server> {
  const folder = await tempFolder(stack);
  for (const name of ["mon", "osd", "run", "log"]) await mkdir(join(folder, name));
  const fsid = randomUUID();
  const osd = randomUUID();
  const [v2, v1, port] = [await freePort(), await freePort(), await freePort()];
  const file = join(folder, "ceph.conf");
  const keyring = join(folder, "keyring");
  const monmap = join(folder, "monmap");
  await writeFile(file, configuration(folder, fsid, { v2, v1, port, deviceBytes }));
  const ceph = (program: string, ...args: string[]) => run([program, "-c", file, ...args]);

  for (const [index, name] of ["mon.", "client.admin", "client.rgw", "osd.0"].entries()) {
    const create = index === 0 ? ["--create-keyring"] : [];
    const caps = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"];
    await run(["ceph-authtool", keyring, ...create, "--gen-key", "-n", name, ...caps]);
  }
  await run([
    "monmaptool",
    "--create",
    "--addv",
    "a",
    `[v2:127.0.0.1:${v2},v1:127.0.0.1:${v1}]`,
    "--fsid",
    fsid,
    monmap,
  ]);
  await ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring);
  await daemon(stack, ["ceph-mon", "-c", file, "-f", "-i", "a"]);
  await ceph("ceph", "--connect-timeout", "20", "osd", "new", osd);
  await ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd);
  await daemon(stack, ["ceph-osd", "-c", file, "-f", "-i", "0"]);
  const gateway = await daemon(stack, ["radosgw", "-c", file, "-f", "-n", "client.rgw"]);
  const endpoint = `http://127.0.0.1:${port}`;
  await ready("radosgw", gateway, () => answersAnything(endpoint));

  const server = {
    endpoint,
    bucket: "weir-test",
    region: "us-east-1",
    accessKeyId: "LABKEY",
    secretAccessKey: "LABSECRET",
    place: "weir-test",
  };
  const { accessKeyId, secretAccessKey, bucket } = server;
  const keys = [`--access-key=${accessKeyId}`, `--secret-key=${secretAccessKey}`];
  await ceph("radosgw-admin", "user", "create", "--uid=lab", "--display-name=lab", ...keys);
  const client = s3Client(server);
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
  } finally {
    client.destroy();
  }
  return server;
}

/** A client beside Weir's own. The caller destroys it. */
export function s3Client(server: S3Server): S3Client {
  const { endpoint, region, accessKeyId, secretAccessKey } = server;
  return new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  });
}

/** Its data are thrown away with it: it is not asked to leave in order, which takes radosgw ten seconds. */
async function daemon(stack: AsyncDisposableStack, argv: readonly string[]): Promise<RunningProcess> {
  const running = await start(argv);
  stack.defer(async () => {
    running.kill("SIGKILL");
    await running.exited;
  });
  return running;
}

async function answersAnything(url: string): Promise<boolean> {
  try {
    await (await fetch(url)).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

function configuration(
  folder: string,
  fsid: string,
  o: { v2: number; v1: number; port: number; deviceBytes: number },
): string {
  // Without cephx radosgw must be told that a plain connection to the monitor will do, or it waits for five minutes. The
  // two paxos lines make the start take one second and not ten.
  return `[global]
fsid = ${fsid}
mon initial members = a
mon host = [v2:127.0.0.1:${o.v2}/0,v1:127.0.0.1:${o.v1}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc secure
keyring = ${folder}/keyring
auth allow insecure global id reclaim = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
paxos propose interval = 0.05
paxos min wait = 0.02
mon data avail crit = 1
run dir = ${folder}/run
admin socket = ${folder}/run/$cluster-$name.$pid.asok
log file = ${folder}/log/$name.log
pid file = ${folder}/run/$name.pid
[mon.a]
mon data = ${folder}/mon
[osd]
osd data = ${folder}/osd
osd objectstore = memstore
memstore device bytes = ${o.deviceBytes}
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:${o.port} tcp_nodelay=1
rgw dns name = 127.0.0.1
`;
}
