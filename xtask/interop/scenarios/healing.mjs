// A server that has lost data gets it back from its connected clients, without an edit.

import assert from "node:assert/strict";
import { cp, rm } from "node:fs/promises";

import { scenario } from "../lib/scenario.mjs";
import { againstReference } from "../lib/server.mjs";
import { SMALL_LIMIT } from "../lib/waiting.mjs";

/** The number in the field trial. */
const MAPS = 200;

/** A client behind a proxy, and a function that writes maps and waits for acknowledgement. */
async function author(world, server) {
  const line = await world.proxy(server);
  const ada = await world.client(line, "Ada");
  const group = ada.publicGroup("writer");
  const maps = [];
  const write = async (count) => {
    for (let n = 0; n < count; n++) maps.push(group.createMap({ number: maps.length }));
    await ada.synced();
  };
  return { line, ada, maps, write };
}

/** Connects the client to the next server. Another client finds all maps there without an edit. */
async function assertHeals(world, { line, ada, maps }, server) {
  line.connectTo(server);
  line.open();
  await ada.reconnected();
  const reader = await world.client(server, "Cleo");
  const deadline = Date.now() + SMALL_LIMIT;
  for (const [number, { id }] of maps.entries()) {
    // Until the map is back, the server answers at once that it is unavailable.
    let found = await reader.node.load(id);
    while (found === "unavailable" && Date.now() < deadline) found = await reader.node.load(id);
    assert.notEqual(found, "unavailable", `map ${number} comes back`);
    assert.equal(found.get("number"), number);
  }
}

const healing = [
  scenario("a server in memory that starts again is filled by its clients", async (world) => {
    const first = await world.server("memory");
    const side = await author(world, first);
    await side.write(MAPS);
    side.line.shut();
    await first.stop();
    await assertHeals(world, side, await world.server("memory"));
  }),

  scenario("an older copy of the store is completed by the clients", async (world) => {
    const storage = await world.storageOnDisk();
    const data = storage.replace(/^\w+:/, "");
    const copy = await world.directory();
    let server = await world.server(storage);
    const side = await author(world, server);
    await side.write(MAPS / 2);
    for (const map of side.maps.slice(0, 10)) map.set("early", true);
    await side.ada.synced();
    side.line.shut();
    await server.stop();
    await cp(data, copy, { recursive: true });

    server = await world.server(storage);
    side.line.connectTo(server);
    side.line.open();
    await side.ada.reconnected();
    await side.write(MAPS / 2);
    for (const map of side.maps.slice(0, 10)) map.set("late", true);
    await side.ada.synced();
    side.line.shut();
    await server.stop();
    await rm(data, { recursive: true });
    await cp(copy, data, { recursive: true });

    server = await world.server(storage);
    await assertHeals(world, side, server);
    const reader = await world.client(server, "Dora");
    for (const { id } of side.maps.slice(0, 10)) {
      assert.equal((await reader.need(id)).get("late"), true);
    }
  }),

  scenario("what a kill took from a relaxed server comes back from the clients", async (world) => {
    const storage = await world.storageOnDisk();
    const flags = ["--durability", "relaxed"];
    const first = await world.server(storage, { flags });
    const side = await author(world, first);
    await side.write(MAPS);
    side.line.shut();
    await first.kill();
    await assertHeals(world, side, await world.server(storage, { flags }));
  }),
];

export const scenarios = againstReference ? [] : healing;
