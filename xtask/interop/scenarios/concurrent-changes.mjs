// Two clients write the same CoValues at the same time and end up with the same entries.
//
// Lists are compared as sets, and a key that both write gets its last value later than the others:
// clients alone decide the order of concurrent edits in the same millisecond.

import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";

import { scenario } from "../lib/scenario.mjs";
import { SMALL_LIMIT, pause, untilValue } from "../lib/waiting.mjs";

const ROUNDS = 40;

/** Two accounts with a map and a list that both have loaded and may write. */
async function pair(world, server) {
  const ada = await world.client(server, "Ada");
  const ben = await world.client(server, "Ben");
  const group = ada.publicGroup("writer");
  const map = group.createMap({ started: true });
  const list = group.createList(["start"]);
  await ada.synced();
  return [
    { client: ada, name: "ada", map, list },
    { client: ben, name: "ben", map: await ben.need(map.id), list: await ben.need(list.id) },
  ];
}

/** One edit of each kind: an own key, a shared key, an entry of the list. */
function edit({ name, map, list }, round) {
  map.set(`${name} ${round}`, round);
  map.set("contested", `${name} ${round}`);
  list.append(`${name} ${round}`);
}

/** Sets the shared key by an edit that is later by any clock. */
async function settle({ map }) {
  await pause(5);
  map.set("contested", "settled");
}

async function assertConverged([one, other], rounds) {
  const edits = [one, other].flatMap(({ name }) =>
    Array.from({ length: rounds }, (_, round) => [`${name} ${round}`, round]),
  );
  for (const { client, map, list } of [one, other]) {
    await untilValue(
      map,
      `all edits of the map at ${client.name}`,
      (map) =>
        map.get("contested") === "settled" &&
        edits.every(([key, value]) => map.get(key) === value),
      SMALL_LIMIT,
    );
    await untilValue(
      list,
      `all entries of the list at ${client.name}`,
      (list) => list.asArray().length >= edits.length + 1,
      SMALL_LIMIT,
    );
    const expected = ["start", ...edits.map(([key]) => key)];
    assert.deepEqual([...list.asArray()].sort(), expected.sort());
  }
  assert.deepEqual(one.map.toJSON(), other.map.toJSON());
}

export const scenarios = [
  scenario("edits of connected clients cross on the wire", async (world) => {
    const writers = await pair(world, await world.server());
    await Promise.all(
      writers.map(async (writer) => {
        for (let round = 0; round < ROUNDS; round++) {
          edit(writer, round);
          // Lets edits pass in both directions, at irregular intervals.
          await nextTurn();
        }
      }),
    );
    await settle(writers[1]);
    await assertConverged(writers, ROUNDS);
  }),

  scenario("edits made while both were offline meet when they connect again", async (world) => {
    const writers = await pair(world, await world.server());
    for (const { client } of writers) client.disconnect();
    for (let round = 0; round < ROUNDS; round++) {
      for (const writer of writers) edit(writer, round);
    }
    await settle(writers[1]);
    assert.equal(writers[0].map.get("ben 0"), undefined, "offline means offline");
    await Promise.all(writers.map(({ client }) => client.reconnect()));
    await assertConverged(writers, ROUNDS);
  }),

  scenario("two devices of one account write side by side", async (world) => {
    const server = await world.server();
    const phone = await world.client(server, "Ada");
    const group = phone.node.createGroup();
    const map = group.createMap({ started: true });
    const list = group.createList(["start"]);
    await phone.synced();
    const laptop = await world.device(server, phone);
    const writers = [
      { client: phone, name: "phone", map, list },
      {
        client: laptop,
        name: "laptop",
        map: await laptop.need(map.id),
        list: await laptop.need(list.id),
      },
    ];
    for (let round = 0; round < ROUNDS; round++) {
      for (const writer of writers) edit(writer, round);
      await nextTurn();
    }
    await settle(writers[1]);
    await assertConverged(writers, ROUNDS);
  }),
];
