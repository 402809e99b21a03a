// Real Jazz clients: a LocalNode of `cojson` behind the WebSocket peer that applications use.

import { cojsonInternals } from "cojson";
import { WebSocket } from "ws";

import { CURRENT } from "./engine.mjs";
import { secretSeed } from "./seeded.mjs";
import { SMALL_LIMIT, within } from "./waiting.mjs";

export const { crypto } = CURRENT;

/** The id of an account of this name: it follows from the secret, which follows from the name. */
export function accountOf(name) {
  const secret = crypto.agentSecretFromSecretSeed(secretSeed(name));
  const header = cojsonInternals.accountHeaderForInitialAgentSecret(secret, crypto);
  return cojsonInternals.idforHeader(header, crypto);
}

/** Short enough for scenarios in which the connection is lost on purpose. */
const RECONNECTION_DELAY = 50;

/** Sockets that trust the authority of their client's server, and report what they receive. */
const webSocketsOf = (client) =>
  class extends WebSocket {
    constructor(url) {
      super(url, { ca: client.server.authority });
      // The peer removes its own listener from a socket that it drops while it connects.
      this.on("error", () => {});
      this.on("open", () => client.connections++);
      this.on("message", (frame) => client.overhear?.(frame.toString()));
    }
  };

export class Client {
  #link;
  #isClosed = false;

  /**
   * A new account, which only this client knows so far.
   *
   * `server` is an object with the `url` to connect to, and with an `authority` for TLS. The
   * options are `engine`, the client's version of Jazz; `storage`, for the client's own data;
   * `reconciles`, whether the client compares that data with the server's when it connects; and
   * `overhear`, a function that receives every frame from the server.
   */
  static withNewAccount(server, name, options) {
    return new Client(server, name, options).#start((environment) => {
      const { engine } = environment;
      return engine.LocalNode.withNewlyCreatedAccount({
        ...environment,
        creationProps: { name },
        initialAgentSecret: engine.crypto.agentSecretFromSecretSeed(secretSeed(name)),
      });
    });
  }

  /** Another device of an account that the server, or the client's storage, already has. */
  static withAccount(server, { name, accountID, accountSecret }, options) {
    return new Client(server, name, options).#start(async (environment) => {
      const { engine } = environment;
      const node = await engine.LocalNode.withLoadedAccount({
        ...environment,
        accountID,
        accountSecret,
        sessionID: engine.crypto.newRandomSessionID(accountID),
      });
      return { node, accountID, accountSecret };
    });
  }

  constructor(server, name, { engine = CURRENT, storage, reconciles = false, overhear } = {}) {
    this.server = server;
    this.name = name;
    this.engine = engine;
    this.storage = storage;
    this.reconciles = reconciles;
    this.overhear = overhear;
    /** The number of connections so far. */
    this.connections = 0;
  }

  /** Loads a CoValue by id, or gives "unavailable" if the first answer says so. */
  async load(id, limit = SMALL_LIMIT) {
    return within(limit, `answer to loading ${id} as ${this.name}`, this.node.load(id, true));
  }

  /** Loads a CoValue that must be there. */
  async need(id, limit = SMALL_LIMIT) {
    const coValue = await this.load(id, limit);
    if (coValue === "unavailable") {
      throw new Error(`${this.name} gets the answer that ${id} is unavailable`);
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

  /** Cuts the connection. The client goes on offline. */
  disconnect() {
    this.#link.disable();
  }

  /** Connects again after `disconnect`. */
  async reconnect() {
    this.#link.enable();
    await this.#connected();
  }

  /** Resolves when the client has reconnected after its connection was cut. */
  async reconnected() {
    await this.#connected();
  }

  /** Ends the client. A second call does nothing. */
  async close() {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#link.disable();
    await this.node?.gracefulShutdown();
  }

  #connect() {
    const early = [];
    this.#link = new this.engine.WebSocketPeerWithReconnection({
      peer: this.server.url,
      reconnectionTimeout: RECONNECTION_DELAY,
      WebSocketConstructor: webSocketsOf(this),
      addPeer: (peer) => {
        if (this.node) this.node.syncManager.addPeer(peer);
        else early.push(peer);
      },
      removePeer: () => {},
    });
    this.#link.enable();
    return early;
  }

  /** Connects, and returns the client once it is connected and has its account. */
  async #start(createNode) {
    try {
      const peers = this.#connect();
      const creation = createNode({
        engine: this.engine,
        crypto: this.engine.crypto,
        storage: this.storage,
        enableFullStorageReconciliation: this.reconciles,
        peers,
        // The name of `peers` before 0.18.
        peersToLoadFrom: peers,
      });
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
