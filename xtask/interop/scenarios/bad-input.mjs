// Frames that no client sends. Each causes one line in the log with the address of the peer. The
// server stores nothing of it, goes on, and serves its other clients.

import assert from "node:assert/strict";

import { OfflineAuthor } from "../lib/offline-author.mjs";
import { scenario } from "../lib/scenario.mjs";
import { againstReference } from "../lib/server.mjs";
import { SMALL_LIMIT, untilValue, within } from "../lib/waiting.mjs";

/** Over the size limit of any server: genuine pieces of content have some 100 KiB. */
const OVERSIZED_BYTES = 48 * 1024 * 1024;

/** WebSocket closing codes (RFC 6455, 7.4.1). */
const UNSUPPORTED_DATA = 1003;
const TOO_BIG = 1009;

/** An id of the right shape for base58, but with characters that are not in its alphabet. */
const BAD_ID = "co_zNot0OIlBase58AtAll00000";

/**
 * A scenario that sends `frames(author)` one after the other, each from its own peer, which has sent
 * good content before, including `also`. `ends` lists the allowed closing codes, with `undefined` for
 * a connection that stays open.
 */
const refuses = (name, frames, { ends = [undefined], also = [] } = {}) =>
  scenario(name, async (world) => {
    const storage = await world.storageOnDisk();
    const server = await world.server(storage);
    const bystanders = await connectedBystanders(world, server);
    const author = new OfflineAuthor("Mallory");

    // Each from its own peer: the server logs the same error of one peer only once in a while.
    for (const frame of frames(author)) {
      const peer = await world.rawPeer(server);
      for (const content of [...author.dependencies, ...also]) await peer.upload(content);
      const mark = server.logMark();
      peer.sendFrame(frame);
      await server.expectComplaint(mark, peer);
      await bystanders.goOn();
      await assertEnds(peer, ends, author);
    }
    await assertNothingStored(await world.rawPeer(server), author);
    await server.stop();

    // The server has not stored the bad content, and accepts the true content.
    const next = await world.server(storage);
    const honest = await world.rawPeer(next);
    await assertNothingStored(honest, author);
    await honest.upload(author.contentOf(author.map));
    const reader = await world.client(next, "Cleo");
    assert.equal((await reader.need(author.map.id)).get("key"), "value");
  });

const VICTIM = new OfflineAuthor("Victim");

/** Two clients that edit a map. `goOn` asserts that they still can. */
async function connectedBystanders(world, server) {
  const ada = await world.client(server, "Ada");
  const ben = await world.client(server, "Ben");
  const map = ada.publicGroup().createMap({ turn: 0 });
  await ada.synced();
  const seen = await ben.need(map.id);
  let turn = 0;
  return {
    async goOn() {
      turn += 1;
      map.set("turn", turn);
      await untilValue(seen, "the bystanders' next edit", (map) => map.get("turn") === turn);
      await ada.synced();
    },
  };
}

async function assertEnds(peer, ends, author) {
  const isUsable = peer
    .load(author.account.id)
    .then(({ action }) => assert.equal(action, "content"))
    .then(() => undefined);
  const outcome = await within(
    SMALL_LIMIT,
    "answer or end of the connection",
    Promise.race([peer.closed, isUsable.catch(() => peer.closed)]),
  );
  assert(ends.includes(outcome), `the connection ended with ${outcome}, not one of ${ends}`);
}

/** The server sends no transaction of the map; a header alone holds no content. */
async function assertNothingStored(peer, author) {
  const answer = await peer.load(author.map.id);
  assert.deepEqual(answer.action === "known" ? answer.sessions : answer.new, {});
}

/** The map's content from a real client, changed by `spoil`. */
const spoilt = (spoil) => (author) => {
  const content = author.contentOf(author.map);
  const [session] = Object.values(content.new);
  spoil(content, session);
  return [JSON.stringify(content)];
};

/** Replaces one character in the middle by another of the same alphabet. */
function flip(text) {
  const middle = Math.floor(text.length / 2);
  return text.slice(0, middle) + (text[middle] === "a" ? "b" : "a") + text.slice(middle + 1);
}

export const scenarios = [
  refuses("a frame that is not JSON", (author) => [
    "Misterioso",
    JSON.stringify(author.contentOf(author.map)).slice(0, -1),
  ]),

  refuses("a frame of JSON that is not an object", () => [
    "[]",
    // These end the process of the reference server.
    ...(againstReference ? [] : ["42", '"text"']),
  ]),

  refuses("a message with an unknown action", (author) => [
    JSON.stringify({ ...author.contentOf(author.map), action: "improvise" }),
  ]),

  refuses(
    "content with a bad id",
    spoilt((content) => {
      content.id = BAD_ID;
    }),
  ),

  refuses(
    "a header that does not hash to its id",
    spoilt((content) => {
      content.header.uniqueness = flip(content.header.uniqueness);
    }),
  ),

  refuses(
    "a signature with one character changed",
    spoilt((_, session) => {
      session.lastSignature = flip(session.lastSignature);
    }),
  ),

  refuses(
    "a transaction that was changed after signing",
    spoilt((_, session) => {
      const [transaction] = session.newTransactions;
      transaction.changes = transaction.changes.replace('"value"', '"other"');
      assert(transaction.changes.includes('"other"'));
    }),
  ),

  refuses(
    "a session under the name of another account",
    spoilt((content, session) => {
      content.new = { [`${VICTIM.account.id}_session_zForged`]: session };
    }),
    { also: [VICTIM.contentOf(VICTIM.account)] },
  ),

  refuses(
    "a message over the size limit",
    (author) => [
      JSON.stringify({ ...author.contentOf(author.map), padding: " ".repeat(OVERSIZED_BYTES) }),
    ],
    { ends: [TOO_BIG] },
  ),

  refuses(
    "a binary frame",
    (author) => [Buffer.from(JSON.stringify(author.contentOf(author.map)))],
    { ends: [undefined, UNSUPPORTED_DATA] },
  ),
];
