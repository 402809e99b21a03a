import { knownStates as functions } from "../packages.mjs";

export function knownStates({ target, source }) {
  const merged = functions.combineKnownStates(structuredClone(target), source);
  const mergedCounts = functions.combineKnownStateSessions({ ...target.sessions }, source.sessions);
  return {
    merged: { header: merged.header, sessions: withoutZeros(merged.sessions) },
    mergedCounts: withoutZeros(mergedCounts),
    isSubset: functions.isKnownStateSubsetOf(source.sessions, target.sessions),
    toSend: withoutZeros(functions.getKnownStateToSend(source.sessions, target.sessions)),
  };
}

/** Removes sessions without transactions, which have no effect. */
export function withoutZeros(sessions) {
  return Object.fromEntries(Object.entries(sessions).filter(([, count]) => count > 0));
}
