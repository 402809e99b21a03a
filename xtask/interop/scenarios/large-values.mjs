// The longest values that clients accept from applications: since 0.18 one MiB before encryption,
// which adds a third; older versions have no limit.

import assert from "node:assert/strict";

import { oldEngine } from "../lib/engine.mjs";
import { TRANSFER_LIMIT } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { untilValue } from "../lib/waiting.mjs";

/** Lengths with a ciphertext below and above 1 MiB, and the greatest length. */
const LENGTHS = [786_300, 786_500, 1_048_500];

/** Enough entries that their ids in one transaction exceed 1 MiB after encryption. */
const ENTRIES = 13_000;
const ENTRY = "co_z3KtTqHpdiLVqUedLN8UzsfaYrx";

const OLD_LENGTH = 3_000_000;

/** A single server, and an edge with its core: where one client writes and the other reads. */
const PLACES = [
  ["direct", async (world) => {
    const server = await world.server();
    return [server, server];
  }],
  ["through an edge", async (world) => {
    const core = await world.server();
    return [await world.server(undefined, { upstreams: [core] }), core];
  }],
];

const inPlace = ([place, start], name, play) =>
  scenario(`${name} (${place})`, async (world) => play(world, ...(await start(world))));

const inPlaces = (name, play) => PLACES.map((place) => inPlace(place, name, play));

const large = (length) => "x".repeat(length);

async function assertReads(client, map, lengths, list) {
  const read = await client.need(map.id, TRANSFER_LIMIT);
  for (const length of lengths) {
    await untilValue(
      read,
      `the value of ${length} bytes`,
      (map) => map.get(`${length}`)?.length === length,
      TRANSFER_LIMIT,
    );
  }
  if (list) {
    const entries = await client.need(list.id, TRANSFER_LIMIT);
    assert.equal(entries.asArray().length, ENTRIES);
  }
  return read;
}

const assertAlive = async (writer, map, seen) => {
  map.set("afterwards", "Ada");
  await untilValue(seen, "a later edit", (map) => map.get("afterwards") === "Ada", TRANSFER_LIMIT);
  seen.set("back", "Ben");
  await untilValue(map, "an edit by others", (map) => map.get("back") === "Ben", TRANSFER_LIMIT);
  await writer.synced(TRANSFER_LIMIT);
};

export const scenarios = [
  ...inPlaces("long private values and lists, written live", async (world, near, far) => {
    const ada = await world.client(near, "Ada");
    const ben = await world.client(far, "Ben");
    const group = ada.publicGroup("writer");
    const map = group.createMap({});
    await ada.synced();
    const seen = await assertReads(ben, map, []);
    for (const length of LENGTHS) map.set(`${length}`, large(length), "private");
    const list = group.createList(Array.from({ length: ENTRIES }, () => ENTRY));
    await ada.synced(TRANSFER_LIMIT);
    await assertReads(ben, map, LENGTHS, list);
    await assertAlive(ada, map, seen);
  }),

  ...inPlaces("long private values and lists, written offline", async (world, near, far) => {
    const ada = await world.client(near, "Ada");
    const ben = await world.client(far, "Ben");
    const group = ada.publicGroup("writer");
    await ada.synced();
    ada.disconnect();
    const map = group.createMap({});
    for (const length of LENGTHS) map.set(`${length}`, large(length), "private");
    const list = group.createList(Array.from({ length: ENTRIES }, () => ENTRY));
    await ada.reconnect();
    await ada.synced(TRANSFER_LIMIT);
    const seen = await assertReads(ben, map, LENGTHS, list);
    await assertAlive(ada, map, seen);
  }),

  ...["0.15", "0.16", "0.17"].map((version, index) => {
    const [direct, edge] = PLACES;
    const place = index === 1 ? direct : edge;
    return inPlace(place, `a value of 3 MB from a client of ${version}`, async (world, near, far) => {
      const ada = await world.client(near, `old ${version}`, { engine: await oldEngine(version) });
      const map = ada.publicGroup("writer").createMap({});
      for (const privacy of ["private", "trusting"]) {
        const length = OLD_LENGTH + privacy.length;
        map.set(`${length}`, large(length), privacy);
      }
      await ada.synced(TRANSFER_LIMIT);
      const ben = await world.client(far, "Ben");
      const lengths = ["private", "trusting"].map((privacy) => OLD_LENGTH + privacy.length);
      const seen = await assertReads(ben, map, lengths);
      await assertAlive(ada, map, seen);
    });
  }),
];
