// The packages of the reference, shared with the interop scenarios.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const interop = createRequire(new URL("../../interop/package.json", import.meta.url));
const load = (from, name) => import(pathToFileURL(from.resolve(name)));

export const cojson = await load(interop, "cojson");
const { WasmCrypto } = await load(interop, "cojson/crypto/WasmCrypto");
export const knownStates = await load(interop, "cojson/dist/knownState.js");
export const contents = await load(interop, "cojson/dist/coValueContentMessage.js");

/** The dependencies of cojson. They must be the same module instances that cojson uses. */
const inner = createRequire(interop.resolve("cojson"));
export const native = await load(inner, "cojson-core-wasm");
export const { base58 } = await load(inner, "@scure/base");

export const crypto = await WasmCrypto.create();
export const { cojsonInternals: internals } = cojson;
