// Acknowledged content is there after the server has stopped, cleanly or not.

import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";

import { scenario } from "../lib/scenario.mjs";
import { AWKWARD_VALUES } from "../lib/seeded.mjs";
import { SMALL_LIMIT, pause, untilValue } from "../lib/waiting.mjs";

/** The number of concurrent writers, and the time until the server stops. */
const WRITERS = 3;
const LOAD_TIME = 300;
const EDITS = 3;

/** The least number of acknowledgements on any machine. */
const FEW_COVALUES = 10;

/** Collects a server's acknowledgements to a client: the count of each session. */
function noteAcknowledgements(acknowledged) {
  return (frame) => {
    for (const line of frame.split("\n").filter((line) => line !== "")) {
      const { action, id, header, sessions } = JSON.parse(line);
      if (action === "known" && header) {
        acknowledged.set(id, { ...acknowledged.get(id), ...sessions });
      }
    }
  };
}

/** Writes CoValues of several kinds with two clients. Returns their ids and a repeatable check. */
async function write(world, server) {
  const ada = await world.client(server, "Ada");
  const ben = await world.client(server, "Ben");
  const group = ada.publicGroup("writer");
  const map = group.createMap({ ...AWKWARD_VALUES });
  const list = group.createList(["one", "two"]);
  await ada.synced();
  const bens = await ben.need(list.id);
  bens.append("three");
  const own = ben.publicGroup().createMap({ list: list.id }, null, "trusting");
  await ben.synced();

  return async (reader) => {
    assert.deepEqual((await reader.need(map.id)).toJSON(), AWKWARD_VALUES);
    const found = await reader.need(own.id);
    assert.deepEqual((await reader.need(found.get("list"))).asArray(), ["one", "two", "three"]);
  };
}

export const scenarios = [
  scenario("a third client loads everything after a clean stop and start", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const check = await write(world, first);
    await first.stop();

    const second = await world.server(storage);
    await check(await world.client(second, "Cleo"));
  }),

  scenario("what was acknowledged survives a server that is killed", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const check = await write(world, first);
    await first.kill();

    const second = await world.server(storage);
    await check(await world.client(second, "Cleo"));
  }),

  scenario("what was acknowledged before a stop amid writing is there", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const acknowledged = new Map();
    const overhear = noteAcknowledgements(acknowledged);
    let isWriting = true;
    const written = [];
    const write = async (client) => {
      const group = client.publicGroup();
      while (isWriting) {
        const map = group.createMap();
        written.push(map.id);
        for (let edit = 0; edit < EDITS && isWriting; edit++) {
          map.set("edit", edit);
          await nextTurn();
        }
      }
    };
    const clients = [];
    for (let writer = 0; writer < WRITERS; writer++) {
      clients.push(await world.client(first, `Writer ${writer}`, { overhear }));
    }
    const writers = Promise.all(clients.map(write));
    await pause(LOAD_TIME);
    const before = acknowledged.size;
    await first.stop().finally(() => (isWriting = false));
    await writers;
    assert(before >= FEW_COVALUES, `${before} CoValues are acknowledged before the stop`);
    assert(written.some((id) => !acknowledged.has(id)), "not everything is acknowledged");
    for (const client of clients) await client.close();

    const second = await world.server(storage);
    const reader = await world.client(second, "Reader");
    for (const [id, sessions] of acknowledged) {
      await reader.need(id, SMALL_LIMIT);
      const known = reader.node.expectCoValueLoaded(id).knownState().sessions;
      for (const [session, count] of Object.entries(sessions)) {
        assert(known[session] >= count, `${known[session]} of ${count} in ${session} of ${id}`);
      }
    }
  }),

  scenario("an account goes on writing after the restart", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const ada = await world.client(first, "Ada");
    const map = ada.publicGroup().createMap({ before: 1 });
    await ada.synced();
    await first.stop();

    const second = await world.server(storage);
    const device = await world.device(second, ada);
    const again = await device.need(map.id);
    const seen = await (await world.client(second, "Ben")).need(map.id);
    again.set("after", 2);
    await untilValue(seen, "the update", (map) => map.get("after") === 2);
    assert.deepEqual(seen.toJSON(), { before: 1, after: 2 });
    await device.synced();
    await second.stop();

    const third = await world.server(storage);
    const reader = await world.client(third, "Cleo");
    assert.deepEqual((await reader.need(map.id)).toJSON(), { before: 1, after: 2 });
  }),

  scenario("a memory storage forgets", async (world) => {
    const first = await world.server("memory");
    const ada = await world.client(first, "Ada");
    const map = ada.publicGroup().createMap({ kept: true });
    await ada.synced();
    await first.stop();

    const second = await world.server("memory");
    const ben = await world.client(second, "Ben");
    assert.equal(await ben.load(map.id), "unavailable");
  }),
];
