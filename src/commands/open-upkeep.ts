import { access } from "node:fs/promises";
import { connect } from "node:net";
import type { Config, ListenAddress } from "../config/types.ts";
import type { Upkeep } from "../proxy/upkeep/upkeep.ts";
import { RootInUseError, readHolder } from "../storage/fs/root.ts";
import { ControlError } from "./control-error.ts";
import { createRemoteUpkeep } from "./remote-upkeep.ts";
import { reachable } from "./start-message.ts";

/** What is held, whoever has it. */
export interface UpkeepAccess {
  readonly upkeep: Upkeep;
  close(): Promise<void>;
}

/** Opens the storage in this process; compose.ts does. Rejects with RootInUseError where another process has it. */
export type OpenHere = (config: Config) => Promise<UpkeepAccess>;

/**
 * Opens the storage of the configuration, or asks the server that has it. Rejects with a {@link ControlError} or StorageError
 * whose message says what to do.
 *
 * @param o.create an empty storage is made where there is none
 */
export async function openUpkeepFor(
  config: Config,
  openHere: OpenHere,
  o: { readonly create: boolean },
): Promise<UpkeepAccess> {
  const { driver, filesystem } = config.storage;
  if (driver !== "s3" && !o.create && !(await isThere(filesystem.root))) {
    throw new ControlError(`storage.filesystem.root: there is no folder ${filesystem.root}: nothing is held`);
  }
  return driver !== "s3" && !filesystem.shared
    ? await openFolder(config, openHere)
    : await openShared(config, openHere);
}

/** A folder of which one process at a time has the lock. */
async function openFolder(config: Config, openHere: OpenHere): Promise<UpkeepAccess> {
  const { root } = config.storage.filesystem;
  try {
    return await openHere(config);
  } catch (error) {
    if (!(error instanceof RootInUseError)) {
      throw error;
    }
    return await openHolders(config, root, error);
  }
}

/** By the token that the server leaves in the storage; else, for other users and machines, by that of the configuration. */
async function openHolders(config: Config, root: string, inUse: RootInUseError): Promise<UpkeepAccess> {
  const holder = await readHolder(root);
  const who = holder === undefined ? "which this user may not ask" : `process ${holder.pid} on ${holder.host}`;
  const { token, listen } = config.admin;
  const control = holder?.control ?? (token === undefined ? undefined : { admin: listen, token });
  if (control === undefined) {
    const remedy =
      holder === undefined
        ? "run this as its user, or set admin.token for both"
        : "it is another command, or a server that is just starting: try again when it is done";
    throw new ControlError(`${root} is in use (${who}): ${remedy}`, { cause: inUse });
  }
  return remote({ ...control, who });
}

/** A server on the same machine answers at once. */
const PROBE_MS = 5_000;

/** A bucket or a shared folder may have several users: a server is asked if there is one, so that it knows what has changed. */
async function openShared(config: Config, openHere: OpenHere): Promise<UpkeepAccess> {
  const { token, listen } = config.admin;
  if (token === undefined) {
    return await openHere(config);
  }
  const listening = await isListening(listen);
  return listening ? remote({ admin: listen, token, who: "of admin.listen" }) : await openHere(config);
}

async function isListening(address: ListenAddress): Promise<boolean> {
  const { host, port } = reachable(address);
  const socket = connect({ host, port, timeout: PROBE_MS });
  try {
    return await new Promise((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("timeout", () => resolve(false));
      socket.once("error", () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}

function remote(server: Parameters<typeof createRemoteUpkeep>[0]): UpkeepAccess {
  return { upkeep: createRemoteUpkeep(server), close: async () => {} };
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
