import { crypto, internals, native } from "../packages.mjs";

/** The id under which the native core accepts a header. Throws if the core refuses it. */
export function headers({ text }) {
  const header = JSON.parse(text);
  const json = JSON.stringify(header);
  const id = internals.idforHeader(header, crypto);
  try {
    accept(id, json);
    return id;
  } catch (error) {
    // The native core drops unknown members and prints some values differently from JavaScript. It
    // returns the resulting id.
    const other = /mismatch: expected (\S+),/.exec(String(error))?.[1];
    if (!other) throw error;
    accept(other, json);
    return other;
  }
}

function accept(id, json) {
  new native.SessionMap(id, json).free();
}
