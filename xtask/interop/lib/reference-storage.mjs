// Storage for the reference server, and for clients that keep their data: a journal of content
// messages, one JSON line each. It is small and synchronous rather than fast; every line is in
// the file before its content is acknowledged, so the scenarios that end the server hold against
// the reference too.

import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

import { cojsonInternals } from "cojson";

/** Longer content, in characters, is returned in several messages. */
const MESSAGE_CHARACTERS = 100 * 1024;

export class JournalStorage {
  /** The content messages of each CoValue in order of arrival. */
  #pieces = new Map();
  #knownStates = new Map();
  /** The CoValues that the node has in memory. */
  #delivered = new Set();
  /** The deleted CoValues, whose tombstone is all that remains. */
  #deleted = new Set();
  /** Pairs of a CoValue and a peer that has not acknowledged all of it. */
  #unsynced = new Map();
  #unsyncedPath;
  #file;

  constructor(directory) {
    mkdirSync(directory, { recursive: true });
    this.#unsyncedPath = join(directory, "unsynced.json");
    if (existsSync(this.#unsyncedPath)) {
      this.#unsynced = new Map(JSON.parse(readFileSync(this.#unsyncedPath, "utf8")));
    }
    const path = join(directory, "journal.jsonl");
    this.#file = openSync(path, "a+");
    for (const line of readFileSync(path, "utf8").split("\n")) {
      if (line !== "") this.#apply(JSON.parse(line));
    }
  }

  store(content, correct, done) {
    const piece = this.#extension(content);
    if (piece === undefined) {
      const correction = correct(this.getKnownState(content.id)) ?? [];
      if (correction.length === 0) return false;
      for (const message of correction) this.#append(this.#extension(message));
    } else {
      this.#append(piece);
    }
    done?.();
    return true;
  }

  /** Returns the content of a CoValue after the content of its dependencies. */
  load(id, callback, done) {
    const pieces = this.#pieces.get(id) ?? [];
    const { sessions } = this.getKnownState(id);
    this.#delivered.add(id);
    for (const [index, message] of joined(pieces).entries()) {
      const { header } = pieces[0];
      for (const dependency of cojsonInternals.getDependedOnCoValues(header, message)) {
        if (!this.#delivered.has(dependency)) this.load(dependency, callback);
      }
      if (index === 0) message.expectContentUntil = { ...sessions };
      callback(message);
    }
    done?.(pieces.length > 0);
  }

  loadKnownState(id, callback) {
    callback(this.#knownStates.has(id) ? this.getKnownState(id) : undefined);
  }

  getKnownState(id) {
    const known = this.#knownStates.get(id) ?? { id, header: false, sessions: {} };
    return { ...known, sessions: { ...known.sessions } };
  }

  getCoValueIDs(limit, offset, callback) {
    const ids = [...this.#pieces.keys()].sort().slice(offset, offset + limit);
    callback(ids.map((id) => ({ id })));
  }

  getCoValueCount(callback) {
    callback(this.#pieces.size);
  }

  onCoValueUnmounted(id) {
    this.#delivered.delete(id);
  }

  /** `store` has written everything when it returns. */
  async waitForSync() {}

  async close() {
    closeSync(this.#file);
  }

  /** From now on the storage keeps only the tombstone of this CoValue. */
  markDeleteAsValid(id) {
    this.#deleted.add(id);
  }

  trackCoValuesSyncState(updates, done) {
    for (const { id, peerId, synced } of updates) {
      const key = `${id} ${peerId}`;
      if (synced) this.#unsynced.delete(key);
      else this.#unsynced.set(key, id);
    }
    this.#writeUnsynced();
    done?.();
  }

  getUnsyncedCoValueIDs(callback) {
    callback([...new Set(this.#unsynced.values())]);
  }

  stopTrackingSyncState(id) {
    for (const [key, tracked] of this.#unsynced) {
      if (tracked === id) this.#unsynced.delete(key);
    }
    this.#writeUnsynced();
  }

  /** Reconciliation is always due, starts at the beginning, and needs no lock. */
  tryAcquireStorageReconciliationLock(_session, _peer, callback) {
    callback({ acquired: true, lastProcessedOffset: 0 });
  }
  renewStorageReconciliationLock() {}
  releaseStorageReconciliationLock() {}

  // The journal lives as long as a scenario, so the file is never compacted.
  enableDeletedCoValuesErasure() {}
  async eraseAllDeletedCoValues() {}

  #writeUnsynced() {
    writeFileSync(this.#unsyncedPath, JSON.stringify([...this.#unsynced]));
  }

  /** The part of a message that goes beyond what is stored, or undefined if there is a gap. */
  #extension({ id, header, priority, new: news }) {
    const known = this.getKnownState(id);
    if (!header && !known.header) return undefined;
    const extension = { action: "content", id, priority, new: {} };
    if (!known.header) extension.header = header;
    for (const [session, { after, newTransactions, lastSignature }] of Object.entries(news)) {
      const have = known.sessions[session] ?? 0;
      if (after > have) return undefined;
      const fresh = newTransactions.slice(have - after);
      if (fresh.length > 0) {
        extension.new[session] = { after: have, newTransactions: fresh, lastSignature };
      }
    }
    return extension;
  }

  #append(piece) {
    if (piece === undefined) throw new Error("a correction must not leave a gap");
    this.#delivered.add(piece.id);
    if (!piece.header && Object.keys(piece.new).length === 0) return;
    if (this.#deleted.has(piece.id)) piece.isTombstone = true;
    writeSync(this.#file, `${JSON.stringify(piece)}\n`);
    this.#apply(piece);
  }

  #apply({ isTombstone, ...piece }) {
    if (isTombstone) this.#forgetAllButTombstone(piece.id);
    const known = this.getKnownState(piece.id);
    known.header = true;
    for (const [session, { after, newTransactions }] of Object.entries(piece.new)) {
      known.sessions[session] = after + newTransactions.length;
    }
    this.#knownStates.set(piece.id, known);
    this.#pieces.set(piece.id, [...(this.#pieces.get(piece.id) ?? []), piece]);
  }

  #forgetAllButTombstone(id) {
    const deleting = (sessions) => Object.fromEntries(Object.entries(sessions).filter(isDeleting));
    const known = this.getKnownState(id);
    this.#knownStates.set(id, { ...known, sessions: deleting(known.sessions) });
    const pieces = this.#pieces.get(id) ?? [];
    this.#pieces.set(
      id,
      pieces.map((piece) => ({ ...piece, new: deleting(piece.new) })),
    );
  }
}

/** Whether a session deletes its CoValue. */
const isDeleting = ([session]) => session.endsWith("$");

/** Joins pieces of one CoValue into fewer messages of limited length. */
function joined(pieces) {
  const messages = [];
  let characters = Infinity;
  for (const piece of pieces) {
    if (characters > MESSAGE_CHARACTERS) {
      messages.push({ ...piece, new: {} });
      characters = 0;
    }
    const message = messages.at(-1);
    for (const [session, { after, newTransactions, lastSignature }] of Object.entries(piece.new)) {
      const before = message.new[session] ?? { after, newTransactions: [] };
      message.new[session] = {
        after: before.after,
        newTransactions: [...before.newTransactions, ...newTransactions],
        lastSignature,
      };
    }
    characters += JSON.stringify(piece).length;
  }
  return messages;
}
