// What was acknowledged is there after the server has been stopped, cleanly or not.

import assert from "node:assert/strict";

import { scenario } from "../lib/scenario.mjs";
import { AWKWARD_VALUES } from "../lib/seeded.mjs";
import { untilValue } from "../lib/waiting.mjs";

/** Writes CoValues of several kinds with two clients; gives their ids and a check to repeat. */
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
