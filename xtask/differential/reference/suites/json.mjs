import { internals } from "../packages.mjs";

/** The canonical text; nothing (by an error) for what is no JSON. */
export function json({ text }) {
  // What is hashed and sent is UTF-8, which has no half surrogate pairs.
  return internals.stableStringify(JSON.parse(text)).toWellFormed();
}
