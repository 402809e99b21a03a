import { internals } from "../packages.mjs";

/** The canonical text. Throws if the text is not JSON. */
export function json({ text }) {
  // Hashed and sent JSON is UTF-8, which has no lone surrogates.
  return internals.stableStringify(JSON.parse(text)).toWellFormed();
}
