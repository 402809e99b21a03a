// Real Jazz clients: a LocalNode of `cojson` behind the WebSocket peer that applications use.

import { LocalNode, LogLevel, logger } from "cojson";
import { WebSocketPeerWithReconnection } from "cojson-transport-ws";
import { WasmCrypto } from "cojson/crypto/WasmCrypto";
import { WebSocket } from "ws";

import { secretSeed } from "./seeded.mjs";
import { SMALL_LIMIT, within } from "./waiting.mjs";

// The client warns of much that a scenario provokes on purpose; a failure shows itself by an
// assertion.
logger.setLevel(process.env.DOWNBEAT_INTEROP_VERBOSE ? LogLevel.DEBUG : LogLevel.NONE);

export const crypto = await WasmCrypto.create();

/** Short enough for scenarios in which the connection is lost on purpose. */
const RECONNECTION_DELAY = 50;

export class Client {
  #link;

  /** A new account, made by this client and known to nobody else yet. */
  static withNewAccount(server, name) {
    return new Client(server, name).#start((peers) =>
      LocalNode.withNewlyCreatedAccount({
        creationProps: { name },
        initialAgentSecret: crypto.agentSecretFromSecretSeed(secretSeed(name)),
        peers,
        crypto,
      }),
    );
  }

  /** Another device of an account that the server already has. */
  static withAccount(server, { name, accountID, accountSecret }) {
    return new Client(server, name).#start(async (peers) => {
      const node = await LocalNode.withLoadedAccount({
        accountID,
        accountSecret,
        sessionID: crypto.newRandomSessionID(accountID),
        peers,
        crypto,
      });
      return { node, accountID, accountSecret };
    });
  }

  constructor(server, name) {
    this.server = server;
    this.name = name;
  }

  /** Loads a CoValue by id, or gives "unavailable" if the first answer says so. */
  async load(id, limit = SMALL_LIMIT) {
    return within(limit, `answer to loading ${id} as ${this.name}`, this.node.load(id, true));
  }

  /** Loads a CoValue that must be there. */
  async need(id, limit = SMALL_LIMIT) {
    const coValue = await this.load(id, limit);
    if (coValue === "unavailable") {
      throw new Error(`${this.name} is told that ${id} is unavailable`);
    }
    return coValue;
  }

  /** Waits until the server has acknowledged everything that this client knows. */
  async synced(limit = SMALL_LIMIT) {
    await within(
      limit,
      `acknowledgement of all that ${this.name} wrote`,
      // The client's own limit is longer, so that the message above is the one seen.
      this.node.syncManager.waitForAllCoValuesSync(limit + 1_000),
    );
  }

  /** A group of this account that everyone may read, or write. */
  publicGroup(role = "reader") {
    const group = this.node.createGroup();
    group.addMember("everyone", role);
    return group;
  }

  /** Cuts the connection; the client goes on working for itself. */
  disconnect() {
    this.#link.disable();
  }

  /** Connects again after `disconnect`. */
  async reconnect() {
    this.#link.enable();
    await this.#connected();
  }

  async close() {
    this.#link.disable();
    await this.node?.gracefulShutdown();
  }

  #connect() {
    const early = [];
    this.#link = new WebSocketPeerWithReconnection({
      peer: this.server.url,
      reconnectionTimeout: RECONNECTION_DELAY,
      WebSocketConstructor: WebSocket,
      addPeer: (peer) => {
        if (this.node) this.node.syncManager.addPeer(peer);
        else early.push(peer);
      },
      removePeer: () => {},
    });
    this.#link.enable();
    return early;
  }

  /** Connects, and gives nothing back but a connected client with its account. */
  async #start(createNode) {
    try {
      const creation = createNode(this.#connect());
      Object.assign(this, await within(SMALL_LIMIT, `account of ${this.name}`, creation));
      await this.#connected();
      return this;
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  #connected() {
    return within(SMALL_LIMIT, `connection of ${this.name}`, this.#link.waitUntilConnected());
  }
}
