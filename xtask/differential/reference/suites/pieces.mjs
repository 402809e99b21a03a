import { base58, cojson, contents, crypto } from "../packages.mjs";
import { withoutZeros } from "./known-states.mjs";

const secret = crypto.agentSecretFromSecretSeed(new Uint8Array(32).fill(255));
const nodeSession = `${crypto.getAgentID(secret)}_session_z1`;

export function pieces({ header, id, sessions, expect, steps, peers }) {
  const node = new cojson.LocalNode(secret, nodeSession, crypto);
  const core = node.getCoValue(id);
  if (!core.provideHeader(JSON.parse(header), expect ?? undefined)) throw new Error("bad header");
  const taken = steps.map((step) => take(core, sessions[step.author], step));
  return {
    steps: taken,
    known: withoutZeros(core.knownState().sessions),
    isStreaming: core.isStreaming(),
    pieces: peers.map((peer) =>
      (core.newContentSince(peer ? { id, ...peer } : undefined) ?? []).map(summary),
    ),
  };
}

/** Whether the transactions are accepted. */
function take(core, author, { signature, overlap, gap, transactions }) {
  const { session } = author;
  if (!signature) {
    const [{ unit, times, madeAt, meta }] = transactions;
    const signer = { currentSignerSecret: () => crypto.getAgentSignerSecret(author.secret) };
    const changes = JSON.parse(`["${unit.repeat(times)}"]`);
    core.verified.makeNewTrustingTransaction(
      session,
      signer,
      changes,
      meta ? JSON.parse(meta) : undefined,
      madeAt,
    );
    return true;
  }
  const known = core.verified.getSession(session)?.transactions ?? [];
  const first = known.length - overlap;
  const content = {
    after: first + gap,
    newTransactions: [...known.slice(first), ...transactions.map(transaction)],
    lastSignature: signature,
  };
  const fresh = contents.getNewTransactionsFromContentMessage(content, core.knownState(), session);
  return fresh !== undefined && core.tryAddTransactions(session, fresh, signature) === undefined;
}

function transaction({ isPrivate, unit, times, madeAt, meta }) {
  const text = unit.repeat(times);
  const rest = { madeAt, ...(meta ? { meta } : {}) };
  return isPrivate
    ? { privacy: "private", encryptedChanges: `encrypted_U${text}`, keyUsed: "key_z1", ...rest }
    : { privacy: "trusting", changes: `["${text}"]`, ...rest };
}

/** The JSON of the native core. `stableStringify` does not escape texts that look like ciphertext. */
function canonical(transaction) {
  return JSON.stringify(transaction, Object.keys(transaction).sort());
}

/** A content message without its transactions. */
function summary(piece) {
  return {
    header: Boolean(piece.header),
    priority: piece.priority,
    runs: Object.entries(piece.new).map(([session, run]) => {
      const log = run.newTransactions.map(canonical).join("");
      const hash = crypto.blake3HashOnce(Buffer.from(log));
      const { after, newTransactions, lastSignature } = run;
      return [session, after, newTransactions.length, lastSignature, `hash_z${base58.encode(hash)}`];
    }),
    expect: piece.expectContentUntil ? withoutZeros(piece.expectContentUntil) : null,
  };
}
