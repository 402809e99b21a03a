// A sync server with the reference engine and the command line of Downbeat. The scenarios pass
// against it, so that a failure with Downbeat is a fault of Downbeat.
//
// node lib/reference-server.mjs serve --host 127.0.0.1 --port 0 --storage memory|data:DIR|sled:DIR|sqlite:FILE
//   [--upstream URL]...

import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { LocalNode, LogLevel, getSqliteStorage, logger } from "cojson";
import { WebSocketPeerWithReconnection, createWebSocketPeer } from "cojson-transport-ws";
import { WasmCrypto } from "cojson/crypto/WasmCrypto";
import { WebSocket, WebSocketServer } from "ws";

import { JournalStorage } from "./reference-storage.mjs";
import { SqliteFile } from "./sqlite-file.mjs";

const PING_INTERVAL = 1_500;

/** The pause before the second attempt to reach an upstream. Each further pause is longer. */
const UPSTREAM_RECONNECTION_DELAY = 50;

/** The size limit of a server. The limit of `ws` itself is 100 MiB. */
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;

const { values: options } = parseArgs({
  // The first argument is the only subcommand.
  args: process.argv.slice(3),
  options: {
    host: { type: "string" },
    port: { type: "string" },
    storage: { type: "string" },
    upstream: { type: "string", multiple: true, default: [] },
  },
});

logger.setLevel(LogLevel.WARN);
logger.setLogSystem({
  debug() {},
  info() {},
  warn: (message, attributes) => console.error("WARN", message, attributes ?? ""),
  error: (message, attributes) => console.error("ERROR", message, attributes ?? ""),
});

const crypto = await WasmCrypto.create();
const secret = crypto.newRandomAgentSecret();
const node = new LocalNode(
  secret,
  crypto.newRandomSessionID(crypto.getAgentID(secret)),
  crypto,
  undefined,
  // As an edge the reference does not track which content its upstream has acknowledged. It
  // compares everything instead.
  options.upstream.length > 0,
);
const [kind, ...place] = options.storage.split(":");
const file = kind === "sqlite" ? new SqliteFile(place.join(":")) : undefined;
if (file) {
  node.setStorage(getSqliteStorage(file));
  // Like the reference's own server. Erasing begins a second after the start.
  node.enableDeletedCoValuesErasure();
} else if (kind !== "memory") {
  node.setStorage(new JournalStorage(place.join(":")));
}

const http = createServer((request, response) => {
  const healthy = request.method === "GET" && request.url === "/health";
  response.writeHead(healthy ? 200 : 404, { "content-type": "text/plain" });
  response.end(healthy ? "ok" : "not found");
});

const sockets = new WebSocketServer({ server: http, maxPayload: MAX_MESSAGE_BYTES });
sockets.on("connection", (websocket, request) => {
  const id = `${request.socket.remoteAddress}:${request.socket.remotePort}`;
  const ping = setInterval(
    () => websocket.send(JSON.stringify({ type: "ping", time: Date.now(), dc: "reference" })),
    PING_INTERVAL,
  );
  websocket.on("close", () => clearInterval(ping));
  websocket.on("error", (error) => console.error("ERROR", "WebSocket", { peer: id, error }));
  node.syncManager.addPeer(
    createWebSocketPeer({
      id,
      role: "client",
      websocket,
      expectPings: false,
      batchingByDefault: false,
      deletePeerStateOnClose: true,
    }),
  );
});

const links = options.upstream.map((url) => {
  const link = new WebSocketPeerWithReconnection({
    peer: url,
    reconnectionTimeout: UPSTREAM_RECONNECTION_DELAY,
    WebSocketConstructor: WebSocket,
    addPeer: (peer) => node.syncManager.addPeer(peer),
    removePeer() {},
  });
  link.enable();
  return link;
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    for (const link of links) link.disable();
    for (const websocket of sockets.clients) websocket.close(1001);
    await node.gracefulShutdown();
    file?.closeDb();
    process.exit(0);
  });
}

http.listen(Number(options.port), options.host, () => {
  console.log(`ws://${options.host}:${http.address().port}`);
});
