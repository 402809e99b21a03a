// Groups in a node of the reference, with the histories that a case gives.

import { cojson, crypto } from "./packages.mjs";

const secret = crypto.agentSecretFromSecretSeed(new Uint8Array(32).fill(255));
const session = `${crypto.getAgentID(secret)}_session_z1`;

/** A node of somebody who has to do with nothing. */
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

/** What to answer when asking the reference about groups failed. */
export function failure(error) {
  if (error instanceof RangeError) {
    // Groups that name each other as parents overflow its stack.
    error.answer = { noAnswer: "stack overflow" };
  } else if (/reading 'entries'/.test(String(error))) {
    // It stumbles over groups in which no transaction counts.
    error.answer = { noAnswer: "empty group" };
  } else if (/Expected parent group to be loaded/.test(String(error))) {
    error.answer = "a parent is not known";
  }
  return error;
}
