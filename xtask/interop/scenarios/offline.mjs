// Clients that lose their connection go on offline, and sync when they are back, in any order and
// any number of times. Lists are compared as sets: clients alone decide the order of concurrent
// entries.

import assert from "node:assert/strict";

import { scenario } from "../lib/scenario.mjs";
import { SMALL_LIMIT, untilValue } from "../lib/waiting.mjs";

const ROUNDS = 5;

/** Two clients, each behind its own proxy, with a map and a list that both may write. */
async function pair(world) {
  const server = await world.server();
  const sides = [];
  for (const name of ["ada", "ben"]) {
    const line = await world.proxy(server);
    sides.push({ name, line, client: await world.client(line, name) });
  }
  const [ada, ben] = sides;
  const group = ada.client.publicGroup("writer");
  ada.map = group.createMap({ started: true });
  ada.list = group.createList(["start"]);
  await ada.client.synced();
  ben.map = await ben.client.need(ada.map.id);
  ben.list = await ben.client.need(ada.list.id);
  return { server, sides, group };
}

function edit({ name, map, list }, round) {
  map.set(`${name} ${round}`, round);
  list.append(`${name} ${round}`);
}

async function assertHave(sides, rounds) {
  const keys = ["ada", "ben"].flatMap((name) => rounds.map((round) => `${name} ${round}`));
  for (const { name, map, list } of sides) {
    await untilValue(
      map,
      `all edits of the map at ${name}`,
      (map) => keys.every((key) => map.get(key) !== undefined),
      SMALL_LIMIT,
    );
    await untilValue(
      list,
      `all entries of the list at ${name}`,
      (list) => list.asArray().length > keys.length,
      SMALL_LIMIT,
    );
    assert.deepEqual([...list.asArray()].sort(), ["start", ...keys].sort());
  }
  assert.deepEqual(sides[0].map.toJSON(), sides[1].map.toJSON());
}

export const scenarios = [
  scenario("edits on both sides of a lost connection meet, time after time", async (world) => {
    const { sides } = await pair(world);
    const rounds = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (const { line } of sides) line.shut();
      for (const side of sides) edit(side, round);
      rounds.push(round);
      for (const { line } of sides) line.open();
      await assertHave(sides, rounds);
    }
    await Promise.all(sides.map(({ client }) => client.synced()));
  }),

  scenario("one side writes online while the other is away", async (world) => {
    const { server, sides } = await pair(world);
    const [ada, ben] = sides;
    ben.line.shut();
    edit(ada, 0);
    edit(ben, 0);
    await ada.client.synced();
    const cleo = await world.client(server, "cleo");
    const seen = await cleo.need(ada.map.id);
    assert.equal(seen.get("ada 0"), 0);
    assert.equal(seen.get("ben 0"), undefined);
    ben.line.open();
    await assertHave(sides, [0]);
    await untilValue(seen, "the offline edit at a third client", (map) => map.get("ben 0") === 0);
  }),

  scenario("connections that are lost again and again while both write", async (world) => {
    const { sides } = await pair(world);
    const rounds = [];
    for (let round = 0; round < 10 * ROUNDS; round++) {
      for (const side of sides) edit(side, round);
      rounds.push(round);
      sides[round % 2].line.cut();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await assertHave(sides, rounds);
  }),

  scenario("CoValues made offline, with their groups, arrive complete", async (world) => {
    const { server, sides } = await pair(world);
    const [ada, ben] = sides;
    ada.line.shut();
    const parent = ada.client.publicGroup("writer");
    const group = ada.client.node.createGroup();
    group.extend(parent);
    const maps = Array.from({ length: 20 }, (_, index) => group.createMap({ index }));
    const index = parent.createList(maps.map(({ id }) => id));
    ada.line.open();
    await ada.client.synced();

    const found = await ben.client.need(index.id);
    for (const [position, id] of found.asArray().entries()) {
      assert.equal((await ben.client.need(id)).get("index"), position);
    }
    assert.equal(found.asArray().length, 20);
    const cleo = await world.client(server, "cleo");
    assert.equal((await cleo.need(maps[7].id)).get("index"), 7);
  }),
];
