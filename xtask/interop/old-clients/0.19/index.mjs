// The client of this folder's version; names are looked up from here, so each gets its own.

export { LocalNode, LogLevel, logger } from "cojson";
export { WasmCrypto } from "cojson/crypto/WasmCrypto";
export { WebSocketPeerWithReconnection } from "cojson-transport-ws";
