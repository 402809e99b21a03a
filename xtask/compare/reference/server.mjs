// The reference sync server in its usual configuration: its engine with native cryptography, and its
// SQLite storage through better-sqlite3 in WAL mode.
//
// node server.mjs FILE
//
// Prints its URL on standard output.

import { createServer } from "node:http";

import Database from "better-sqlite3";
import { LocalNode, LogLevel, logger } from "cojson";
import { createWebSocketPeer } from "cojson-transport-ws";
import { NapiCrypto } from "cojson/crypto/NapiCrypto";
import { getSqliteStorage } from "cojson/dist/storage/sqlite/index.js";
import { WebSocketServer } from "ws";

const PING_INTERVAL = 1_500;

/** The database interface of the engine, implemented with better-sqlite3. */
class Driver {
  #database;
  /** Each statement is compiled only once. This favours the reference. */
  #statements = new Map();

  constructor(file) {
    this.#database = new Database(file);
    this.#database.pragma("journal_mode = WAL");
  }

  run(sql, parameters) {
    this.#statement(sql).run(parameters);
  }

  get(sql, parameters) {
    return this.#statement(sql).get(parameters);
  }

  query(sql, parameters) {
    const statement = this.#statement(sql);
    if (!statement.reader) {
      statement.run(parameters);
      return [];
    }
    return statement.all(parameters);
  }

  transaction(body) {
    return this.#database.transaction(body)();
  }

  closeDb() {
    this.#database.close();
  }

  #statement(sql) {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      // Statements that change the schema run once.
      if (/^\s*(select|insert|update|delete)/i.test(sql)) this.#statements.set(sql, statement);
    }
    return statement;
  }
}

logger.setLevel(LogLevel.ERROR);

const crypto = await NapiCrypto.create();
const secret = crypto.newRandomAgentSecret();
const node = new LocalNode(
  secret,
  crypto.newRandomSessionID(crypto.getAgentID(secret)),
  crypto,
);
node.setStorage(getSqliteStorage(new Driver(process.argv[2])));
node.enableGarbageCollector();

const http = createServer((_, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ server: http });
sockets.on("connection", (websocket, request) => {
  const ping = setInterval(
    () => websocket.send(JSON.stringify({ type: "ping", time: Date.now(), dc: "reference" })),
    PING_INTERVAL,
  );
  websocket.on("close", () => clearInterval(ping));
  websocket.on("error", (error) => console.error(error));
  node.syncManager.addPeer(
    createWebSocketPeer({
      id: `${request.socket.remoteAddress}:${request.socket.remotePort}`,
      role: "client",
      websocket,
      expectPings: false,
      batchingByDefault: false,
      deletePeerStateOnClose: true,
    }),
  );
});

process.once("SIGTERM", async () => {
  for (const websocket of sockets.clients) websocket.terminate();
  await node.gracefulShutdown();
  process.exit(0);
});

http.listen(0, "127.0.0.1", () => console.log(`ws://127.0.0.1:${http.address().port}`));
