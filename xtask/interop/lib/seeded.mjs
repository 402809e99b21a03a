// Content that is the same in every run. Keys and ids of CoValues differ: the client chooses them
// at random.

import { createCipheriv, createHash } from "node:crypto";

const digest = (seed) => createHash("sha256").update(seed).digest();

/** `length` bytes that look random, so that compression cannot shorten them. */
export function seededBytes(seed, length) {
  const key = digest(seed);
  const cipher = createCipheriv("aes-128-ctr", key.subarray(0, 16), key.subarray(16, 32));
  return cipher.update(Buffer.alloc(length));
}

/** The 32 bytes from which a client derives an account's secret. */
export const secretSeed = (name) => new Uint8Array(digest(`account of ${name}`));

/**
 * Values of every JSON kind, with characters that are difficult for codecs. Each must come back
 * unchanged. The keys look like those of applications.
 */
export const AWKWARD_VALUES = Object.freeze({
  text: "plain",
  empty: "",
  quotes: 'a "quoted" \\ backslash / slash',
  control: "tab\tnewline\ncarriage\rnul\u0000escape\u001bdelete\u007f",
  unicode: "grüße, 日本語, עברית, 👩‍👩‍👧‍👦, \u2028 \u2029",
  halfSurrogate: "lone \ud83d half",
  "key with spaces, ünïcode and \"quotes\"": "kept",
  encryptedLookalike: "encrypted_Unot really",
  binaryLookalike: "binary_U\"quoted\"",
  integer: 42,
  negative: -7,
  fraction: 0.1,
  large: 1e21,
  small: 5e-324,
  biggestSafe: Number.MAX_SAFE_INTEGER,
  yes: true,
  no: false,
  nothing: null,
  list: [1, "two", [3, null], {}],
  record: { b: 1, a: { deep: ["x"] }, 10: "ten", 9: "nine" },
});
