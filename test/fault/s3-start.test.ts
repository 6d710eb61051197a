/** Whatever is wrong with a bucket is said at the start, in a sentence that names the key of the configuration. */
import { expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import type { S3Config } from "../../src/config/types.ts";
import { openStorage } from "../../src/storage/open-storage.ts";
import { freePort } from "../support/processes.ts";
import { type S3Fault, startS3Proxy } from "../support/s3-proxy.ts";
import { describeS3, objectsBelow, s3Config } from "../support/s3-store.ts";

const SECRET = "a-secret-that-nobody-may-see";

describeS3(
  "the start on S3",
  (server) => {
    async function failure(changes: Partial<S3Config>, fault?: S3Fault): Promise<string> {
      await using stack = new AsyncDisposableStack();
      const proxy = await startS3Proxy(stack, server().endpoint);
      if (fault !== undefined) proxy.fault = () => fault;
      const s3 = s3Config(server(), { endpoint: new URL(proxy.endpoint), ...changes });
      const config = { driver: "s3", filesystem: { root: "", shared: false }, s3 } as const;
      const error = await openStorage(config, { clock: systemClock, random: Math.random, log: silentLog }).then(
        async (storage) => {
          await storage.close();
          throw new Error("it has started");
        },
        (reason: unknown) => reason,
      );
      expect(error).toMatchObject({ name: "StorageError", fault: "unavailable" });
      const said = `${error} ${JSON.stringify(error)} ${(error as Error).stack}`;
      expect(said).not.toContain(SECRET);
      expect(said).not.toContain(server().secretAccessKey);
      return (error as Error).message;
    }

    const keys = (accessKeyId: string, secret: string) => ({
      credentials: { accessKeyId, secretAccessKey: new Secret(secret), sessionToken: undefined },
    });

    test("S6 a bucket that is not there", async () => {
      expect(await failure({ bucket: "no-such-bucket" })).toMatch(
        /storage\.s3\.bucket: .* has no bucket "no-such-bucket"/,
      );
    });

    test("S6 an access key that the server does not know", async () => {
      expect(await failure(keys("NOBODY", SECRET))).toMatch(
        /storage\.s3\.accessKeyId: .* does not know this access key/,
      );
    });

    test("S6 A4 a secret that does not belong to the access key", async () => {
      const said = await failure(keys(server().accessKeyId, SECRET));
      expect(said).toMatch(/storage\.s3\.secretAccessKey: .* refuses the signature/);
    });

    test("S6 a server that cannot be reached", async () => {
      const port = await freePort();
      const said = await failure({ endpoint: new URL(`http://127.0.0.1:${port}`) });
      expect(said).toContain(`storage.s3.endpoint: http://127.0.0.1:${port} cannot be reached (ECONNREFUSED)`);
    });

    const told: [string, S3Fault, RegExp][] = [
      [
        "another region, which the server names",
        { status: 400, code: "AuthorizationHeaderMalformed", detail: "<Region>eu-north-1</Region>" },
        /storage\.s3\.region: "us-east-1" is not the region .* "eu-north-1"/,
      ],
      ["another region", { status: 301, code: "PermanentRedirect" }, /storage\.s3\.region: .* name the bucket's own/],
      [
        "a clock that is wrong",
        { status: 403, code: "RequestTimeTooSkewed" },
        /more than 15 minutes apart: set the clock/,
      ],
      ["expired credentials", { status: 400, code: "ExpiredToken" }, /storage\.s3\.sessionToken: .* have expired/],
      [
        "a right that is missing",
        { status: 403, code: "AccessDenied" },
        /denies it to storage\.s3\.accessKeyId .*s3:PutObject/,
      ],
      ["a server that is busy", { status: 503, code: "SlowDown" }, /asks to slow down/],
    ];
    test.each(told)("S6 %s", async (_name, fault, sentence) => {
      expect(await failure({}, fault)).toMatch(sentence);
    });

    test("a bucket that will do is left as it was found", async () => {
      const s3 = s3Config(server());
      const config = { driver: "s3", filesystem: { root: "", shared: false }, s3 } as const;
      const storage = await openStorage(config, { clock: systemClock, random: Math.random, log: silentLog });
      expect(storage.root).toBeUndefined();
      await storage.close();
      expect(await objectsBelow(server(), s3.prefix)).toEqual([]);
    });
  },
  { proxied: true },
);
