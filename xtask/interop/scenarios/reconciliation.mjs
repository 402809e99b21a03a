// A client with its own storage restores data that its server has lost.

import assert from "node:assert/strict";
import { cp, rm } from "node:fs/promises";

import { crypto } from "../lib/client.mjs";
import { TRANSFER_LIMIT, assertReads, writeFile } from "../lib/files.mjs";
import { OfflineAuthor } from "../lib/offline-author.mjs";
import { JournalStorage } from "../lib/reference-storage.mjs";
import { scenario } from "../lib/scenario.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { SMALL_LIMIT, pause, within } from "../lib/waiting.mjs";

/** More CoValues than the client lists in one message. */
const MAPS = 120;

const FILE_BYTES = 700 * 1024;

const BATCH = "batch-1";

/** A client with storage that writes many maps, a list of them, and a file. */
async function write(world, server, directory) {
  const ada = await world.client(server, "Ada", { storage: new JournalStorage(directory) });
  const group = ada.publicGroup();
  const maps = Array.from({ length: MAPS }, (_, index) => group.createMap({ index }));
  const list = group.createList(maps.map(({ id }) => id));
  const bytes = seededBytes("reconciled file", FILE_BYTES);
  const file = await writeFile(group, bytes);
  await ada.synced(TRANSFER_LIMIT);
  return { ada, maps, list, file, bytes };
}

async function assertHasAll(reader, { maps, list, file, bytes }) {
  const ids = (await reader.need(list.id)).asArray();
  assert.deepEqual(ids, maps.map(({ id }) => id));
  for (const [index, id] of ids.entries()) {
    assert.equal((await reader.need(id)).get("index"), index);
  }
  await assertReads(reader, file.id, bytes);
}

/** Waits until every batch of the client's reconciliation has been acknowledged. */
async function reconciled({ node }, limit = SMALL_LIMIT) {
  const { pendingReconciliationAck: pending } = node.syncManager;
  const deadline = Date.now() + limit;
  // No event marks the last acknowledgement, and there is a short pause between two batches.
  for (let quiet = 0; quiet < 5; ) {
    await pause(20);
    quiet = pending.size === 0 ? quiet + 1 : 0;
    assert(Date.now() < deadline, `no acknowledgement of all batches within ${limit} ms`);
  }
}

const entry = (content) => {
  const sessions = Object.fromEntries(
    Object.entries(content.new).map(([session, { after, newTransactions }]) => [
      session,
      after + newTransactions.length,
    ]),
  );
  return [content.id, crypto.shortHash(sessions)];
};

const acknowledged = (peer) =>
  peer.next("reconcile-ack", ({ action, id }) => action === "reconcile-ack" && id === BATCH);

export const scenarios = [
  scenario("a server that has lost everything gets everything back", async (world) => {
    const directory = await world.directory();
    const first = await world.server("memory");
    const written = await write(world, first, directory);
    await written.ada.close();
    await first.stop();

    const second = await world.server("memory");
    const storage = new JournalStorage(directory);
    const ada = await world.device(second, written.ada, { storage, reconciles: true });
    await reconciled(ada);
    await assertHasAll(await world.client(second, "Ben"), written);
  }),

  scenario("a server that is set back to an old copy gets the rest back", async (world) => {
    const directory = await world.directory();
    const storage = await world.storageOnDisk();
    const data = storage.replace(/^\w+:/, "");
    const copy = await world.directory();
    const first = await world.server(storage);
    const written = await write(world, first, directory);
    await first.stop();
    await cp(data, copy, { recursive: true });

    // The client continues on the same storage; its edits are lost with the server's data later.
    const second = await world.server(storage);
    const { accountID, accountSecret } = written.ada;
    const later = await world.device(
      second,
      { name: "Ada again", accountID, accountSecret },
      { storage: new JournalStorage(directory) },
    );
    (await later.need(written.maps[3].id)).set("later", true);
    const added = (await later.need(written.list.id)).core.safeGetGroup().createMap({ new: 1 });
    await later.synced();
    await later.close();
    await written.ada.close();
    await second.stop();
    await rm(data, { recursive: true });
    await cp(copy, data, { recursive: true });

    const third = await world.server(storage);
    const before = await world.rawPeer(third);
    assert.equal((await before.load(added.id)).header, false, "lost with the copy");
    const ada = await world.device(third, written.ada, {
      storage: new JournalStorage(directory),
      reconciles: true,
    });
    await reconciled(ada);
    const ben = await world.client(third, "Ben");
    assert.equal((await ben.need(written.maps[3].id)).get("later"), true);
    assert.equal((await ben.need(added.id)).get("new"), 1);
    await assertHasAll(ben, written);
  }),

  scenario("edits that never left a client's storage are sent at its next start", async (world) => {
    const directory = await world.directory();
    const server = await world.server();
    const line = await world.proxy(server);
    const ada = await world.client(line, "Ada", { storage: new JournalStorage(directory) });
    const group = ada.publicGroup();
    const map = group.createMap({ state: "old" });
    await ada.synced();
    line.shut();
    map.set("state", "new");
    const added = group.createMap({ made: "offline" });
    // The client stores the edits of one turn together after it.
    await pause(10);
    await ada.close();

    line.open();
    await world.device(line, ada, { storage: new JournalStorage(directory) });
    const ben = await world.client(server, "Ben");
    const limit = Date.now() + SMALL_LIMIT;
    const seen = await ben.need(map.id);
    while (seen.get("state") !== "new" || (await ben.load(added.id)) === "unavailable") {
      assert(Date.now() < limit, "both edits come up");
      await pause(50);
    }
    assert.equal((await ben.need(added.id)).get("made"), "offline");
  }),

  scenario("nothing to fetch is acknowledged at once, on the wire", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const author = new OfflineAuthor("Ada");
    const contents = [...author.dependencies, author.contentOf(author.map)];
    for (const content of contents) await peer.upload(content);

    const other = await world.rawPeer(server);
    other.send({ action: "reconcile", id: BATCH, values: contents.map(entry) });
    await acknowledged(other);
    other.send({ action: "reconcile", id: BATCH, values: [] });
    await acknowledged(other);
  }),

  scenario("what the server lacks is asked for before the acknowledgement", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const author = new OfflineAuthor("Ada");
    for (const content of author.dependencies) await peer.upload(content);
    const first = author.contentOf(author.map);
    await peer.upload(first);
    author.map.set("key", "new", "trusting");
    const added = author.group.createMap({ key: "added" }, null, "trusting");

    const other = await world.rawPeer(server);
    const wanted = [author.contentOf(author.map), author.contentOf(added)];
    const values = [...author.dependencies, ...wanted].map(entry);
    other.send({ action: "reconcile", id: BATCH, values });
    const loads = {};
    for (const { id } of wanted) {
      loads[id] = await other.next(
        `load of ${id}`,
        (message) => message.action === "load" && message.id === id,
      );
    }
    assert.deepEqual(
      loads[author.map.id].sessions,
      Object.fromEntries(Object.keys(first.new).map((session) => [session, 1])),
    );
    assert.equal(loads[added.id].header, false);
    assert.deepEqual(loads[added.id].sessions, {});

    let isAcknowledged = false;
    const acknowledgement = acknowledged(other).then(() => {
      isAcknowledged = true;
    });
    acknowledgement.catch(() => {});
    await other.upload(wanted[0]);
    await pause(100);
    assert(!isAcknowledged, "one of the two is still missing");
    await other.upload(wanted[1]);
    await within(SMALL_LIMIT, "end of the batch", acknowledgement);
    const ben = await world.client(server, "Ben");
    assert.equal((await ben.need(author.map.id)).get("key"), "new");
    assert.equal((await ben.need(added.id)).get("key"), "added");
  }),

  scenario("a batch ends too when the client turns out not to have it", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const { map } = new OfflineAuthor("Ada");
    const values = [[map.id, crypto.shortHash({ anything: 1 })]];
    peer.send({ action: "reconcile", id: BATCH, values });
    await peer.next("load", ({ action, id }) => action === "load" && id === map.id);
    peer.send({ action: "known", id: map.id, header: false, sessions: {} });
    await acknowledged(peer);
  }),
];
