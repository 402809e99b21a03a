// The Jazz library that a client is made of: the version under test, or one of the past. Several
// versions live side by side in one process, each with modules of its own.

import * as cojson from "cojson";
import * as transport from "cojson-transport-ws";
import * as wasm from "cojson/crypto/WasmCrypto";

/** Versions of the past, the oldest first; `old-clients` has a folder for each. */
export const OLD_VERSIONS = Object.freeze(["0.15", "0.16", "0.17", "0.18", "0.19"]);

/** The libraries as they are today. */
export const CURRENT = await engine("0.20", { ...cojson, ...transport, ...wasm });

/** The libraries of one of `OLD_VERSIONS`. */
export async function oldEngine(version) {
  return engine(version, await import(`../old-clients/${version}/index.mjs`));
}

async function engine(version, modules) {
  const { LocalNode, LogLevel, logger, WasmCrypto, WebSocketPeerWithReconnection } = modules;
  // The client warns of much that a scenario provokes on purpose; a failure shows itself by an
  // assertion.
  logger.setLevel(process.env.DOWNBEAT_INTEROP_VERBOSE ? LogLevel.DEBUG : LogLevel.NONE);
  return { version, LocalNode, WebSocketPeerWithReconnection, crypto: await WasmCrypto.create() };
}
