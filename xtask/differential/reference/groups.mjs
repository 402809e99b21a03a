// Groups in a node of the reference, with the histories of a case.

import { cojson, crypto } from "./packages.mjs";

const secret = crypto.agentSecretFromSecretSeed(new Uint8Array(32).fill(255));
const session = `${crypto.getAgentID(secret)}_session_z1`;

/** A node whose agent is a member of no group. */
export function outsider() {
  return new cojson.LocalNode(secret, session, crypto);
}

/** Puts the groups into the node, without verification. */
export function addGroups(node, groups) {
  for (const { id, header, sessions } of groups) {
    const core = node.getCoValue(id);
    if (!core.provideHeader(JSON.parse(header))) throw new Error("bad header");
    for (const { session, transactions } of sessions) {
      const log = transactions.map(({ isPrivate, madeAt, changes }) =>
        isPrivate
          ? { privacy: "private", madeAt, keyUsed: "key_z1", encryptedChanges: "encrypted_U" }
          : { privacy: "trusting", madeAt, changes },
      );
      const error = core.tryAddTransactions(session, log, "signature_z1", true);
      if (error) throw new Error(`${error.type}: ${error.error}`);
    }
  }
}

/** An error of the reference about groups, with the answer to compare. */
export function failure(error) {
  return Object.assign(new Error(String(error)), { answer: answerToFailure(error) });
}

function answerToFailure(error) {
  if (error instanceof RangeError) {
    // The reference overflows its stack for groups that name each other as parents.
    return { noAnswer: "stack overflow" };
  }
  if (/reading 'entries'/.test(String(error))) {
    // The reference fails for groups without a valid transaction.
    return { noAnswer: "empty group" };
  }
  if (/Core error: Invalid (decoding prefix|key length)/.test(String(error))) {
    // The reference fails for an invalid key in the place of a key for everyone.
    return { noAnswer: "no key" };
  }
  return /not yet loaded/.test(String(error)) ? "a group is not known" : null;
}
