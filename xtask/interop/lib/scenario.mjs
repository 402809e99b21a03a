// Scenarios and their world: servers, clients and directories, which are removed at the end of a
// scenario, whether it passes or not.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Client } from "./client.mjs";
import { Proxy } from "./proxy.mjs";
import { RawPeer } from "./raw-peer.mjs";
import { Server } from "./server.mjs";
import { within } from "./waiting.mjs";

/** The kind of storage of servers that keep their data on disk: `data` or `sled`. */
const kindOnDisk = process.env.DOWNBEAT_INTEROP_STORAGE ?? "data";

/** A scenario that takes longer has failed. Few take more than two seconds. */
const SCENARIO_LIMIT = 60_000;

/**
 * One scenario: `play` gets a fresh `World`. `limit` is in milliseconds.
 */
export const scenario = (name, play, limit = SCENARIO_LIMIT) => ({ name, limit, play });

/** Runs a scenario and cleans up. Rejects with the first error. */
export async function run({ limit, play }) {
  const world = new World();
  const errors = [];
  try {
    await within(limit, "end of the scenario", play(world));
  } catch (error) {
    errors.push(error);
  }
  errors.push(...(await world.close()));
  const [first, ...more] = errors;
  if (first === undefined) return;
  for (const { message } of more) first.message += `\nand in the end: ${message}`;
  first.message += world.report();
  throw first;
}

class World {
  #open = [];
  #servers = [];
  #names = new Set();

  /**
   * Starts a server with its own storage, by default on disk. The option `upstreams` lists its
   * upstream servers, and `reference` starts the reference server in any case; for the others see
   * `Server`.
   */
  async server(storage, options) {
    const server = await Server.start(storage ?? (await this.storageOnDisk()), options);
    this.#servers.push(server);
    return this.#keep(server);
  }

  /** The argument for a storage in a new directory. Several servers may use it in turn. */
  async storageOnDisk() {
    return `${kindOnDisk}:${await this.directory()}`;
  }

  /** A new directory. */
  async directory() {
    const directory = await mkdtemp(join(tmpdir(), "downbeat-interop-"));
    this.#keep({ close: () => rm(directory, { recursive: true, force: true }) });
    return directory;
  }

  /** A proxy in front of a server. Connect clients to it to cut or slow down their connections. */
  async proxy(server) {
    return this.#keep(await Proxy.start(server));
  }

  /**
   * A connected client with a new account. Each name stands for one account. For the options see
   * `Client`.
   */
  async client(server, name, options) {
    if (this.#names.has(name)) throw new Error(`there is a client named ${name} already`);
    this.#names.add(name);
    return this.#keep(await Client.withNewAccount(server, name, options));
  }

  /** A further device of a client's account, at the same server or another. */
  async device(server, client, options) {
    return this.#keep(await Client.withAccount(server, client, options));
  }

  /** A peer that writes its own frames. */
  async rawPeer(server, path) {
    return this.#keep(await RawPeer.open(server, path));
  }

  /** Anything else that must be closed in the end. */
  defer(close) {
    this.#keep({ close });
  }

  report() {
    const logs = this.#servers.map((server) => server.logTail()).filter((tail) => tail !== "");
    return logs.map((tail) => `\n--- the server's log ---\n${tail}`).join("");
  }

  /** Closes everything in reverse order, also after errors, and returns the errors. */
  async close() {
    const errors = [];
    for (const resource of this.#open.reverse()) {
      try {
        await resource.close();
      } catch (error) {
        errors.push(error);
      }
    }
    return errors;
  }

  #keep(resource) {
    this.#open.push(resource);
    return resource;
  }
}
