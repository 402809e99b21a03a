import { internals } from "../packages.mjs";

/** The canonical text; nothing (by an error) for what is no JSON. */
export function json({ text }) {
  // Hashed and sent JSON is UTF-8, which has no lone surrogates.
  return internals.stableStringify(JSON.parse(text)).toWellFormed();
}
