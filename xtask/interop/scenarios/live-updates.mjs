// A subscriber soon receives every update.

import assert from "node:assert/strict";

import { scenario } from "../lib/scenario.mjs";
import { LIVE_LIMIT, untilValue } from "../lib/waiting.mjs";

const UPDATES = 20;

export const scenarios = [
  scenario("updates reach a subscriber within moments, in both directions", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const map = ada.publicGroup("writer").createMap({});
    await ada.synced();
    const sides = [map, await ben.need(map.id)];

    // Ping-pong: each update is written only after the one before it has arrived.
    for (let update = 0; update < UPDATES; update++) {
      const [from, to] = update % 2 === 0 ? sides : [...sides].reverse();
      const arrival = untilValue(to, `update ${update}`, (map) => map.get("turn") === update);
      from.set("turn", update);
      await arrival;
    }
  }),

  scenario("every subscriber gets the update, a late one as well", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const map = ada.publicGroup().createMap({ state: "old" });
    await ada.synced();
    const readers = [];
    for (const name of ["Ben", "Cleo", "Dan"]) {
      const reader = await world.client(server, name);
      readers.push(await reader.need(map.id));
    }
    map.set("state", "new");
    await Promise.all(
      readers.map((seen) => untilValue(seen, "the update", (map) => map.get("state") === "new")),
    );
  }),

  scenario(
    "a subscription to something not yet there is answered when it is written",
    async (world) => {
      const server = await world.server();
      const ada = await world.client(server, "Ada");
      const ben = await world.client(server, "Ben");
      await ada.synced();
      ada.disconnect();
      const map = ada.publicGroup().createMap({ written: "offline" });

      assert.equal(await ben.load(map.id, LIVE_LIMIT), "unavailable");
      const arrival = new Promise((resolve) => {
        const core = ben.node.getCoValue(map.id);
        const unsubscribe = core.subscribe((core) => core.isAvailable() && resolve(core));
        world.defer(unsubscribe);
      });
      await ada.reconnect();
      await arrival;
      const seen = ben.node.getLoaded(map.id);
      await untilValue(seen, "the value", (map) => map.get("written") === "offline");
    },
  ),

  scenario("permission given later opens what was loaded before", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    await ben.synced();
    const group = ada.node.createGroup();
    const map = group.createMap({ kept: "between us" }, null, "private");
    await ada.synced();

    const seen = await ben.need(map.id);
    assert.equal(seen.get("kept"), undefined);
    group.addMember(await ada.need(ben.accountID), "writer");
    await untilValue(seen, "the key to the map", (map) => map.get("kept") === "between us");
  }),
];
