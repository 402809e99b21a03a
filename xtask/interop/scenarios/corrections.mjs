// The server corrects a client with a wrong view of the server's state, and the client sends the
// missing content.

import assert from "node:assert/strict";

import { OfflineAuthor } from "../lib/offline-author.mjs";
import { scenario } from "../lib/scenario.mjs";
import { untilValue } from "../lib/waiting.mjs";

const nextAbout = (peer, { id }, action) =>
  peer.next(`${action} of ${id}`, (message) => message.id === id && message.action === action);

/** Makes a client believe that the server has the client's whole content of a CoValue. */
function believeInServer({ node }, coValue) {
  for (const peer of node.syncManager.getServerPeers(coValue.id)) {
    peer.combineWith(coValue.id, coValue.core.knownState());
  }
}

/** Content of the author's map with the transactions before `after` left out. */
function contentAfter(author, after) {
  const content = author.contentOf(author.map);
  const [session] = Object.values(content.new);
  session.newTransactions.splice(0, after);
  session.after = after;
  delete content.header;
  return content;
}

export const scenarios = [
  scenario("content without a header for something unknown is asked for in full", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const author = new OfflineAuthor("Ada");
    for (const content of author.dependencies) await peer.upload(content);

    const { header: _, ...headless } = author.contentOf(author.map);
    peer.send(headless);
    const correction = await nextAbout(peer, author.map, "known");
    assert.equal(correction.isCorrection, true);
    assert.equal(correction.header, false);
    assert.deepEqual(correction.sessions, {});

    await peer.upload(author.contentOf(author.map));
    const reader = await world.client(server, "Ben");
    assert.equal((await reader.need(author.map.id)).get("key"), "value");
  }),

  scenario("content after a gap is answered with what the server has", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const author = new OfflineAuthor("Ada");
    for (const content of author.dependencies) await peer.upload(content);
    await peer.upload(author.contentOf(author.map));
    const [session] = Object.keys(author.contentOf(author.map).new);
    author.map.set("lost", 1, "trusting");
    author.map.set("key", "new", "trusting");

    peer.send(contentAfter(author, 2));
    const correction = await peer.next(
      "correction",
      ({ id, isCorrection }) => id === author.map.id && isCorrection,
    );
    assert.equal(correction.header, true);
    assert.deepEqual(correction.sessions, { [session]: 1 });

    await peer.upload(contentAfter(author, 1));
    const reader = await world.client(server, "Ben");
    assert.deepEqual((await reader.need(author.map.id)).toJSON(), { key: "new", lost: 1 });
  }),

  scenario("what the server has already is skipped, not taken for a mistake", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const author = new OfflineAuthor("Ada");
    for (const content of author.dependencies) await peer.upload(content);
    await peer.upload(author.contentOf(author.map));
    author.map.set("key", "new", "trusting");

    for (let time = 0; time < 2; time++) {
      peer.send(author.contentOf(author.map));
      const answer = await peer.next(
        "acknowledgement of both transactions",
        ({ id, action, sessions }) =>
          id === author.map.id && action === "known" && Object.values(sessions)[0] === 2,
      );
      assert(!answer.isCorrection, "nothing was wrong");
    }
    const reader = await world.client(server, "Ben");
    assert.deepEqual((await reader.need(author.map.id)).toJSON(), { key: "new" });
  }),

  scenario("the server takes back what it is told by a correction", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const map = ada.publicGroup().createMap({ a: 1 }, null, "trusting");
    map.set("b", 2, "trusting");
    await ada.synced();

    const peer = await world.rawPeer(server);
    const first = await peer.load(map.id);
    assert.equal(first.action, "content");
    peer.send({ action: "known", ...map.core.knownState() });
    peer.send({ action: "known", isCorrection: true, id: map.id, header: false, sessions: {} });
    const again = await nextAbout(peer, map, "content");
    assert.deepEqual(again.header, first.header);
    assert.deepEqual(again.new, first.new);
  }),

  scenario("a client that is wrong about the server sends everything in the end", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const group = ada.publicGroup();
    await ada.synced();
    const peer = await world.rawPeer(server);

    // The client writes while the line is cut, and forgets that its edits have not arrived.
    ada.disconnect();
    const map = group.createMap({ written: "offline" });
    for (let count = 0; count < 10; count++) map.set("count", count);
    assert.equal((await peer.load(map.id)).header, false);
    await ada.reconnect();
    believeInServer(ada, map);
    map.set("written", "online");
    await ada.synced();

    const ben = await world.client(server, "Ben");
    assert.deepEqual((await ben.need(map.id)).toJSON(), { written: "online", count: 9 });
  }),

  scenario("a server that was emptied gets the data of the clients that stayed", async (world) => {
    const first = await world.server("memory");
    const line = await world.proxy(first);
    const ada = await world.client(line, "Ada");
    const ben = await world.client(line, "Ben");
    const group = ada.publicGroup("writer");
    const map = group.createMap({ before: 1 });
    await ada.synced();
    const seen = await ben.need(map.id);
    seen.set("ben", 1);
    await ben.synced();
    // The data comes back from the client that edits next, so that client must have all of it.
    await untilValue(map, "Ben's edit", (map) => map.get("ben") === 1);
    line.shut();
    await first.stop();

    const second = await world.server("memory");
    line.connectTo(second);
    line.open();
    await Promise.all([ada.reconnected(), ben.reconnected()]);
    map.set("after", 2);
    await untilValue(seen, "the edit at the other client", (map) => map.get("after") === 2);
    await Promise.all([ada.synced(), ben.synced()]);

    const reader = await world.client(second, "Cleo");
    assert.deepEqual((await reader.need(map.id)).toJSON(), { before: 1, ben: 1, after: 2 });
  }),
];
