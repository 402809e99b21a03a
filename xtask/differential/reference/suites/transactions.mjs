import { crypto, internals, native } from "../packages.mjs";

const SESSION = "co_z1_session_z1";

const header = {
  type: "comap",
  ruleset: { type: "unsafeAllowAll" },
  meta: null,
  uniqueness: "transactions",
};
const id = internals.idforHeader(header, crypto);

/** The transaction as the native core writes it. Throws if the core refuses it. */
export function transactions({ text }) {
  const map = new native.SessionMap(id, JSON.stringify(header));
  try {
    const log = JSON.stringify([JSON.parse(text)]);
    map.addTransactions(SESSION, undefined, log, "signature_z1", true);
    return map.getTransaction(SESSION, 0);
  } finally {
    map.free();
  }
}
