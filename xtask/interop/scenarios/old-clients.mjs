// Clients of every minor version since 0.15 sync with the server, with each other, and with current
// clients.

import assert from "node:assert/strict";

import { OLD_VERSIONS, oldEngine } from "../lib/engine.mjs";
import { assertReads, writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { AWKWARD_VALUES, seededBytes } from "../lib/seeded.mjs";
import { SMALL_LIMIT, untilValue } from "../lib/waiting.mjs";

const FILE_BYTES = 600 * 1024;

/** All values except one, from which clients before 0.20 make invalid JSON. */
const { binaryLookalike: _, ...VALUES } = AWKWARD_VALUES;

/** The content that a client of one version writes for all others. */
async function write(client) {
  const group = client.publicGroup("writer");
  const values = group.createMap({ ...VALUES }, null, "private");
  const trusting = group.createMap({ ...VALUES }, null, "trusting");
  const list = group.createList([client.name]);
  const bytes = seededBytes(`file of ${client.name}`, FILE_BYTES);
  const file = await writeFile(group, bytes);
  await client.synced();
  return { values: values.id, trusting: trusting.id, list: list.id, file: file.id, bytes };
}

async function assertReadsAll(client, written) {
  for (const id of [written.values, written.trusting]) {
    assert.deepEqual((await client.need(id)).toJSON(), VALUES, `as ${client.name} reads it`);
  }
  await assertReads(client, written.file, written.bytes);
}

const worksWith = (version) =>
  scenario(`a client of ${version} and one of today upload, load and follow`, async (world) => {
    const server = await world.server();
    const old = await world.client(server, `client of ${version}`, {
      engine: await oldEngine(version),
    });
    const today = await world.client(server, "client of today");
    await assertReadsAll(today, await write(old));
    await assertReadsAll(old, await write(today));

    // A private group, keys sealed for each other's account.
    const group = old.node.createGroup();
    group.addMember(await old.need(today.accountID), "writer");
    const map = group.createMap({ turn: 0 }, null, "private");
    await old.synced();
    const seen = await today.need(map.id);
    for (let turn = 1; turn < 6; turn++) {
      const [from, to] = turn % 2 === 0 ? [map, seen] : [seen, map];
      from.set("turn", turn);
      await untilValue(to, `turn ${turn}`, (map) => map.get("turn") === turn);
    }

    old.disconnect();
    map.set("old", "offline");
    seen.set("today", "online");
    await today.synced();
    await old.reconnect();
    for (const side of [map, seen]) {
      await untilValue(
        side,
        "both edits",
        (map) => map.get("old") === "offline" && map.get("today") === "online",
        SMALL_LIMIT,
      );
    }
    await old.synced();
    const device = await world.device(server, old, { engine: old.engine });
    assert.equal((await device.need(map.id)).get("today"), "online");
  });

export const scenarios = [
  ...OLD_VERSIONS.map(worksWith),

  scenario("all versions write the same CoValues at one server", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const clients = [await world.client(first, "today")];
    for (const version of OLD_VERSIONS) {
      clients.push(await world.client(first, version, { engine: await oldEngine(version) }));
    }
    const writings = [];
    for (const client of clients) writings.push(await write(client));
    for (const client of clients) {
      for (const written of writings) await assertReadsAll(client, written);
    }

    const [shared] = writings;
    const lists = [];
    for (const client of clients) lists.push(await client.need(shared.list));
    for (const [index, list] of lists.entries()) list.append(`from ${clients[index].name}`);
    const expected = ["today", ...clients.map(({ name }) => `from ${name}`)].toSorted();
    for (const list of lists) {
      await untilValue(
        list,
        "an entry of every version",
        (list) => list.asArray().length === expected.length,
        SMALL_LIMIT,
      );
      assert.deepEqual(list.asArray().toSorted(), expected);
    }
    for (const client of clients) await client.synced();
    await first.stop();

    const second = await world.server(storage);
    for (const version of [...OLD_VERSIONS].reverse()) {
      const engine = await oldEngine(version);
      const late = await world.client(second, `late ${version}`, { engine });
      assert.deepEqual((await late.need(shared.list)).asArray().toSorted(), expected);
    }
  }),
];
