// Branches: a CoValue that starts from another's state, is edited separately, and is merged back.

import assert from "node:assert/strict";

import { scenario } from "../lib/scenario.mjs";
import { SMALL_LIMIT, untilValue, within } from "../lib/waiting.mjs";

const checkout = (client, { id }, name, owner) =>
  within(SMALL_LIMIT, `branch ${name}`, client.node.checkoutBranch(id, name, owner?.id));

/** Two clients with a map that both may write. */
async function pair(world, server) {
  const ada = await world.client(server, "Ada");
  const ben = await world.client(server, "Ben");
  const group = ada.publicGroup("writer");
  const map = group.createMap({ title: "Crepuscule", key: "B flat" });
  await ada.synced();
  return { ada, ben, map, seen: await ben.need(map.id) };
}

export const scenarios = [
  scenario("a branch is loaded by name, written by two and merged by one", async (world) => {
    const server = await world.server();
    const { ada, ben, map, seen } = await pair(world, server);
    const branch = await checkout(ada, map, "draft");
    branch.set("title", "Crepuscule with Nellie");
    await ada.synced();
    await untilValue(seen, "the branch's commit", (map) => map.core.hasBranch("draft"));

    const bens = await checkout(ben, seen, "draft");
    assert.equal(bens.id, branch.id);
    assert.equal(bens.get("title"), "Crepuscule with Nellie");
    assert.equal(bens.get("key"), "B flat", "a branch shows what it started from");
    assert.equal(seen.get("title"), "Crepuscule", "the source is as it was");
    bens.set("tempo", "slow");
    await untilValue(branch, "Ben's edit at Ada", (branch) => branch.get("tempo") === "slow");

    branch.core.mergeBranch();
    const merged = { title: "Crepuscule with Nellie", key: "B flat", tempo: "slow" };
    await untilValue(seen, "the merge at Ben", (map) => map.get("tempo") === "slow");
    assert.deepEqual(seen.toJSON(), merged);
    await ada.synced();
    const cleo = await world.client(server, "Cleo");
    assert.deepEqual((await cleo.need(map.id)).toJSON(), merged);
  }),

  scenario("a branch comes with its source to the client that loads it first", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const { ada, map } = await pair(world, first);
    const branch = await checkout(ada, map, "draft");
    branch.set("title", "Pannonica");
    await ada.synced();
    await first.stop();

    const second = await world.server(storage);
    const cleo = await world.client(second, "Cleo");
    const seen = await cleo.need(branch.id);
    assert.deepEqual(seen.toJSON(), { title: "Pannonica", key: "B flat" });
    assert.equal((await cleo.need(map.id)).get("title"), "Crepuscule");
  }),

  scenario("a private branch of a public map is read by its owner alone", async (world) => {
    const server = await world.server();
    const { ada, ben, map } = await pair(world, server);
    const own = ada.node.createGroup();
    const branch = await checkout(ada, map, "secret", own);
    branch.set("title", "Ugly Beauty");
    await ada.synced();

    assert.notEqual((await ben.need(branch.id)).get("title"), "Ugly Beauty");
    const device = await world.device(server, ada);
    assert.equal((await checkout(device, map, "secret", own)).get("title"), "Ugly Beauty");
    branch.core.mergeBranch();
    await untilValue(
      await ben.need(map.id),
      "the merge at Ben",
      (map) => map.get("title") === "Ugly Beauty",
    );
  }),

  scenario("a branch of a list that was written offline on both sides", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const list = ada.publicGroup("writer").createList(["one"]);
    await ada.synced();
    const seen = await ben.need(list.id);
    const branch = await checkout(ada, list, "draft");
    branch.append("two");
    await ada.synced();
    await untilValue(seen, "the branch's commit", (list) => list.core.hasBranch("draft"));
    const bens = await checkout(ben, seen, "draft");

    for (const client of [ada, ben]) client.disconnect();
    branch.append("three");
    bens.append("four");
    list.append("five");
    for (const client of [ada, ben]) await client.reconnect();
    await untilValue(branch, "all of the branch", (branch) => branch.asArray().length === 4);
    branch.core.mergeBranch();
    await untilValue(seen, "the merge at Ben", (list) => list.asArray().length === 5);
    assert.deepEqual(seen.asArray().toSorted(), ["five", "four", "one", "three", "two"]);
  }),
];
