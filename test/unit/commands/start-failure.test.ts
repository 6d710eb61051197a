import { expect, test } from "vitest";
import { describeStartFailure } from "../../../src/commands/start-failure.ts";
import { parseConfig } from "../../../src/config/parse.ts";

function config(admin = "127.0.0.1:5001") {
  const result = parseConfig({ admin: { listen: admin } }, {}, "/srv/weir");
  if (!result.ok) {
    throw new Error("the default is not right");
  }
  return result.config;
}

function systemError(fields: Readonly<Record<string, unknown>>): Error {
  return Object.assign(new Error(`${fields.code}: what Node says`), fields);
}

test.each([
  [
    { code: "EADDRINUSE", syscall: "listen", port: 5000 },
    "127.0.0.1:5000 is taken by another process",
    "server.listen",
  ],
  [{ code: "EADDRINUSE", syscall: "listen", port: 5001 }, "127.0.0.1:5001 is taken by another process", "admin.listen"],
  [{ code: "EACCES", syscall: "listen", port: 5000 }, "may not listen on 127.0.0.1:5000", "from 1024 on"],
  [{ code: "EADDRNOTAVAIL", syscall: "listen", port: 5000 }, "not an address of this machine", "server.listen"],
  [{ code: "ENOTFOUND", syscall: "getaddrinfo", hostname: "weir.invalid" }, "weir.invalid:5002 is not", "admin.listen"],
  [{ code: "EMFILE", syscall: "listen", port: 5000 }, "cannot listen on 127.0.0.1:5000", "what Node says"],
  [{ code: "EACCES", syscall: "mkdir", path: "/data/x" }, "may not use /data/x", "owner or mode"],
  [
    { code: "EROFS", syscall: "mkdir", path: "/data" },
    "/data is on a read-only file system",
    "storage.filesystem.root",
  ],
  [{ code: "ENOENT", syscall: "open", path: "/c.pem" }, "/c.pem does not exist", ""],
  [{ code: "ENOTDIR", syscall: "mkdir", path: "/etc/hosts/x" }, "/etc/hosts/x is in the way", "folder"],
  [{ code: "EIO", syscall: "write" }, "cannot use a file", "what Node says"],
])("O1 %j is told in a sentence", (fields, ...expected) => {
  const told = describeStartFailure(
    systemError(fields),
    config("hostname" in fields ? `${fields.hostname}:5002` : undefined),
  );
  for (const part of expected) {
    expect(told).toContain(part);
  }
});

test("O1 what the parts say themselves is passed on", () => {
  expect(describeStartFailure(new Error("the folder is in use by another Weir"), config())).toBe(
    "the folder is in use by another Weir",
  );
  expect(describeStartFailure("odd", config())).toBe("odd");
});
