// Storage for the reference server: a journal of content messages, one JSON line each. It is
// small and synchronous rather than fast; every line is in the file before its content is
// acknowledged, so the scenarios that end the server hold against the reference too.

import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

import { cojsonInternals } from "cojson";

/** Content of more than this many characters is handed over in several messages. */
const MESSAGE_CHARACTERS = 100 * 1024;

export class JournalStorage {
  /** Per CoValue the content messages in order of arrival, each continuing the ones before. */
  #pieces = new Map();
  #knownStates = new Map();
  /** What the node has in memory already. */
  #delivered = new Set();
  #file;

  constructor(directory) {
    mkdirSync(directory, { recursive: true });
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

  /** Gives the content of a CoValue after that of everything it depends on. */
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

  // What a server without an upstream and without deletions has no use for.
  markDeleteAsValid() {}
  enableDeletedCoValuesErasure() {}
  async eraseAllDeletedCoValues() {}
  trackCoValuesSyncState(_updates, done) {
    done?.();
  }
  getUnsyncedCoValueIDs(callback) {
    callback([]);
  }
  stopTrackingSyncState() {}
  tryAcquireStorageReconciliationLock(_session, _peer, callback) {
    callback({ acquired: false, reason: "not_due" });
  }
  renewStorageReconciliationLock() {}
  releaseStorageReconciliationLock() {}

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
    writeSync(this.#file, `${JSON.stringify(piece)}\n`);
    this.#apply(piece);
  }

  #apply(piece) {
    const known = this.getKnownState(piece.id);
    known.header = true;
    for (const [session, { after, newTransactions }] of Object.entries(piece.new)) {
      known.sessions[session] = after + newTransactions.length;
    }
    this.#knownStates.set(piece.id, known);
    this.#pieces.set(piece.id, [...(this.#pieces.get(piece.id) ?? []), piece]);
  }
}

/** Pieces of one CoValue as fewer messages, cut where enough has gathered. */
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
