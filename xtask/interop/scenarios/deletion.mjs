// Deletions: a deleted CoValue stays deleted for all clients, and only its admins can delete it.

import assert from "node:assert/strict";

import { oldEngine } from "../lib/engine.mjs";
import { scenario } from "../lib/scenario.mjs";
import { pause, untilValue, within, LIVE_LIMIT } from "../lib/waiting.mjs";

/** The time to wait for an event that must not happen. */
const SETTLING = 500;

const isDeleting = (session) => session.endsWith("$");

/** Resolves when a client sees that a CoValue is deleted. */
async function untilDeleted(client, { id }) {
  const core = client.node.expectCoValueLoaded(id);
  let unsubscribe = () => {};
  const deleted = new Promise((resolve) => {
    unsubscribe = core.subscribe((core) => core.isDeleted && resolve());
  });
  try {
    await within(LIVE_LIMIT, `deletion at ${client.name}`, deleted);
  } finally {
    unsubscribe();
  }
}

/** The answer to a client without the CoValue: only its tombstone. */
async function assertTombstone(world, server, map) {
  const answer = await (await world.rawPeer(server)).load(map.id);
  assert.equal(answer.action, "content");
  assert(answer.header, "the header is kept");
  const sessions = Object.keys(answer.new);
  assert(sessions.length > 0 && sessions.every(isDeleting), `only tombstones: ${sessions}`);
}

/** A map of Ada's that everyone may write, with edits by Ben too. */
async function pair(world, server, line = server) {
  const ada = await world.client(server, "Ada");
  const ben = await world.client(line, "Ben");
  const group = ada.publicGroup("writer");
  const map = group.createMap({ kept: "for now" }, null, "trusting");
  await ada.synced();
  const seen = await ben.need(map.id);
  seen.set("ben", 1, "trusting");
  await untilValue(map, "Ben's edit", (map) => map.get("ben") === 1);
  return { ada, ben, group, map, seen };
}

export const scenarios = [
  scenario("a deleted map is deleted for others, now and after a restart", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const { ada, ben, map, seen } = await pair(world, first);
    map.core.deleteCoValue();
    await untilDeleted(ben, map);
    assert.equal(seen.core.isDeleted, true);
    await Promise.all([ada.synced(), ben.synced()]);
    await assertTombstone(world, first, map);
    const cleo = await world.client(first, "Cleo");
    assert.equal((await cleo.need(map.id)).get("kept"), undefined);
    await untilDeleted(cleo, map);
    await first.stop();

    const second = await world.server(storage);
    await assertTombstone(world, second, map);
    const dan = await world.client(second, "Dan");
    assert.equal((await dan.need(map.id)).get("kept"), undefined);
    await untilDeleted(dan, map);
  }),

  scenario("edits made offline before the deletion was heard of are let go", async (world) => {
    const server = await world.server();
    const line = await world.proxy(server);
    const { ada, ben, map, seen } = await pair(world, server, line);
    line.shut();
    seen.set("late", true, "trusting");
    map.core.deleteCoValue();
    await ada.synced();
    line.open();
    await ben.reconnected();
    await untilDeleted(ben, map);
    // The server acknowledges content that it drops, so that the client does not send it again.
    await ben.synced();
    await assertTombstone(world, server, map);
  }),

  scenario("an old client's late content is acknowledged and dropped", async (world) => {
    const server = await world.server();
    const { ada, map } = await pair(world, server);
    const old = await world.client(server, "Old", { engine: await oldEngine("0.19") });
    const olds = await old.need(map.id);
    olds.set("before", true, "trusting");
    await untilValue(map, "the old client's edit", (map) => map.get("before") === true);
    map.core.deleteCoValue();
    await ada.synced();

    // Its version does not know deletions, and goes on.
    for (let late = 0; late < 3; late++) {
      olds.set("late", late, "trusting");
      await old.synced();
    }
    old.disconnect();
    olds.set("late", "offline", "trusting");
    await old.reconnect();
    await old.synced();
    await assertTombstone(world, server, map);
  }),

  scenario("late content on the wire gets a KNOWN that covers it", async (world) => {
    const server = await world.server();
    const { ada, map } = await pair(world, server);
    const [late] = map.core.newContentSince();
    map.core.deleteCoValue();
    await ada.synced();
    const peer = await world.rawPeer(server);
    await peer.upload(late);
    await assertTombstone(world, server, map);
  }),

  scenario("a deletion by an account that may only write is refused", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const { ada, ben, map, seen } = await pair(world, first);
    assert.throws(() => seen.core.deleteCoValue());
    // The content of a client without that check.
    seen.core.makeTransaction([], "trusting", { deleted: map.id });
    await pause(SETTLING);
    assert.equal(map.core.isDeleted, false);
    map.set("still", "here", "trusting");
    await ada.synced();
    await ben.close();
    await first.stop();

    const second = await world.server(storage);
    const cleo = await world.client(second, "Cleo");
    const found = await cleo.need(map.id);
    assert.deepEqual(found.toJSON(), { kept: "for now", ben: 1, still: "here" });
    assert.equal(found.core.isDeleted, false);
  }),

  scenario("an admin who was made one may delete, and two may at once", async (world) => {
    const server = await world.server();
    const { ada, ben, group, map, seen } = await pair(world, server);
    group.addMember(await ada.need(ben.accountID), "admin");
    const bensGroup = await ben.need(group.id);
    await untilValue(bensGroup, "Ben's role", (group) => group.roleOf(ben.accountID) === "admin");
    // Roles are looked up by the millisecond.
    await pause(5);
    seen.core.deleteCoValue();
    map.core.deleteCoValue();
    await Promise.all([ada.synced(), ben.synced()]);
    await assertTombstone(world, server, map);
    const cleo = await world.client(server, "Cleo");
    await cleo.need(map.id);
    await untilDeleted(cleo, map);
  }),

  scenario("a large file is deleted for a client that has never loaded it", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const stream = ada.publicGroup().createBinaryStream();
    stream.startBinaryStream({ mimeType: "text/plain", fileName: "gone.txt" });
    for (let chunk = 0; chunk < 8; chunk++) {
      stream.pushBinaryStreamChunk(new Uint8Array(100 * 1024).fill(chunk));
    }
    await ada.synced();
    stream.core.deleteCoValue();
    await ada.synced();
    await assertTombstone(world, server, stream);
  }),
];
