import { addGroups, failure, outsider } from "../groups.mjs";
import { withoutZeros } from "./known-states.mjs";

/** The result of each run, and whether the CoValue is deleted in the end. */
export function deletes({ groups, accounts, id, header, steps }) {
  const node = outsider();
  addGroups(node, groups);
  for (const account of accounts) {
    node.getCoValue(account.id).provideHeader(JSON.parse(account.header));
  }
  const core = node.getCoValue(id);
  if (!core.provideHeader(JSON.parse(header))) throw new Error("bad header");
  return {
    steps: steps.map((step) => take(core, step)),
    isDeleted: core.isDeleted,
    known: withoutZeros(core.knownState().sessions),
  };
}

function take(core, { session, transactions, signature }) {
  const log = transactions.map(({ isPrivate, madeAt, meta }) => ({
    madeAt,
    ...(meta === null ? {} : { meta }),
    ...(isPrivate
      ? { privacy: "private", keyUsed: "key_z1", encryptedChanges: "encrypted_U" }
      : { privacy: "trusting", changes: "[]" }),
  }));
  try {
    const error = core.tryAddTransactions(session, log, signature);
    return error === undefined ? "taken" : (error.reason ?? error.type);
  } catch (error) {
    const failed = failure(error);
    if (typeof failed.answer !== "string") throw failed;
    return failed.answer;
  }
}
