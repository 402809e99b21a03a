import { base58, crypto, internals, native } from "../packages.mjs";

const header = {
  type: "comap",
  ruleset: { type: "unsafeAllowAll" },
  meta: null,
  uniqueness: "signatures",
};
const id = internals.idforHeader(header, crypto);

export function signatures({ secret, transactions, signer, signature }) {
  const agent = crypto.getAgentID(secret);
  const session = `${agent}_session_z1`;
  const signerSecret = crypto.getAgentSignerSecret(secret);

  const own = new native.SessionMap(id, JSON.stringify(header));
  const made = transactions.map(({ changes, madeAt, meta }) =>
    JSON.parse(
      own.makeNewTrustingTransaction(session, signerSecret, changes, meta ?? undefined, madeAt),
    ),
  );
  const texts = own.getSessionTransactions(session, 0);
  own.free();

  const hash = `hash_z${base58.encode(crypto.blake3HashOnce(Buffer.from(texts.join(""))))}`;
  return {
    agent,
    signatures: made.map((each) => each.signature),
    transactions: texts,
    signatureOfHash: crypto.sign(signerSecret, hash),
    acceptsLog: acceptsLog(session, signer, texts, signature),
    acceptsHash: acceptsHash(signature, hash, signer),
  };
}

function acceptsLog(session, signer, texts, signature) {
  const foreign = new native.SessionMap(id, JSON.stringify(header));
  try {
    foreign.addTransactions(session, signer, `[${texts.join(",")}]`, signature, false);
  } catch {
    // Not freed, because this is impossible after a panic.
    return false;
  }
  foreign.free();
  return true;
}

function acceptsHash(signature, hash, signer) {
  try {
    return crypto.verify(signature, hash, signer);
  } catch {
    return false;
  }
}
