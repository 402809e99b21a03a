// The Jazz library of a client: the version under test, or an older one. Several versions run in one
// process, each with its own modules.

import * as cojson from "cojson";
import * as transport from "cojson-transport-ws";
import * as wasm from "cojson/crypto/WasmCrypto";

/** Older versions, oldest first; `old-clients` has a folder for each. */
export const OLD_VERSIONS = Object.freeze(["0.15", "0.16", "0.17", "0.18", "0.19"]);

/** The current libraries. */
export const CURRENT = await engine("0.20", { ...cojson, ...transport, ...wasm });

/** The libraries of one of `OLD_VERSIONS`. */
export async function oldEngine(version) {
  return engine(version, await import(`../old-clients/${version}/index.mjs`));
}

async function engine(version, modules) {
  const { LocalNode, LogLevel, logger, WasmCrypto, WebSocketPeerWithReconnection } = modules;
  // The client logs many warnings that a scenario provokes on purpose. Assertions show failures.
  logger.setLevel(process.env.DOWNBEAT_INTEROP_VERBOSE ? LogLevel.DEBUG : LogLevel.NONE);
  return { version, LocalNode, WebSocketPeerWithReconnection, crypto: await WasmCrypto.create() };
}
