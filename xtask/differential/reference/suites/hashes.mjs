import { base58, crypto, native } from "../packages.mjs";

export function hashes({ value, sessions, chain }) {
  const hasher = new native.Blake3Hasher();
  const heads = chain.map((text) => {
    hasher.update(Buffer.from(text));
    return `hash_z${base58.encode(hasher.finalize())}`;
  });
  hasher.free();
  return {
    hash: crypto.secureHash(JSON.parse(value)),
    shortHash: crypto.shortHash(JSON.parse(value)),
    sessions: crypto.shortHash(sessions),
    heads,
  };
}
