// One client writes, another reads.

import assert from "node:assert/strict";

import { scenario } from "../lib/scenario.mjs";
import { AWKWARD_VALUES } from "../lib/seeded.mjs";

export const scenarios = [
  scenario(
    "a second account loads public CoMaps by id and reads the same values",
    async (world) => {
      const server = await world.server();
      const ada = await world.client(server, "Ada");
      const group = ada.publicGroup();
      const values = group.createMap({ ...AWKWARD_VALUES }, null, "private");
      const trusting = group.createMap({ ...AWKWARD_VALUES }, null, "trusting");
      const referring = group.createMap({ values: values.id, trusting: trusting.id });
      await ada.synced();

      const ben = await world.client(server, "Ben");
      const found = await ben.need(referring.id);
      for (const key of ["values", "trusting"]) {
        const map = await ben.need(found.get(key));
        assert.deepEqual(map.toJSON(), AWKWARD_VALUES, `${key} as Ben reads them`);
      }
      assert.equal((await ben.need(group.id)).roleOf(ben.accountID), "reader");
    },
  ),

  scenario(
    "edits made after loading and a history of many transactions arrive in full",
    async (world) => {
      const server = await world.server();
      const ada = await world.client(server, "Ada");
      const map = ada.publicGroup().createMap({ counter: 0 });
      for (let counter = 1; counter <= 200; counter++) map.set("counter", counter);
      map.delete("counter");
      map.set("final", "value");
      await ada.synced();

      const ben = await world.client(server, "Ben");
      const seen = await ben.need(map.id);
      assert.deepEqual(seen.toJSON(), { final: "value" });
      assert.equal([...seen.editsAt("counter")].length, 202, "every edit of the counter");
    },
  ),

  scenario("a member added by account id reads what is private to the group", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const eve = await world.client(server, "Eve");
    await ben.synced();

    const group = ada.node.createGroup();
    const secret = group.createMap({ kept: "between us" }, null, "private");
    group.addMember(await ada.need(ben.accountID), "writer");
    await ada.synced();

    const seen = await ben.need(secret.id);
    assert.equal(seen.get("kept"), "between us");
    // The server sends the CoValue to each client that knows its id, but only members have the key
    // to read it.
    assert.equal((await eve.need(secret.id)).get("kept"), undefined);
  }),

  scenario("a further device of the same account loads what the first one wrote", async (world) => {
    const server = await world.server();
    const phone = await world.client(server, "Ada");
    const map = phone.node.createGroup().createMap({ from: "phone" }, null, "private");
    await phone.synced();

    const laptop = await world.device(server, phone);
    const seen = await laptop.need(map.id);
    assert.equal(seen.get("from"), "phone");
    assert.notEqual(laptop.node.currentSessionID, phone.node.currentSessionID);
  }),

  scenario("CoLists, CoStreams and plain text come back as they were written", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const group = ada.publicGroup();
    const list = group.createList(["first", "second"]);
    list.append("fourth");
    list.append("third", 1);
    list.delete(0);
    const feed = group.createStream();
    for (const entry of ["one", 2, { three: 3 }]) feed.push(entry);
    const text = group.createPlainText("Take the A train");
    text.insertAfter(text.toString().length - 1, ", grüße 👋");
    await ada.synced();

    const ben = await world.client(server, "Ben");
    assert.deepEqual((await ben.need(list.id)).asArray(), list.asArray());
    assert.deepEqual((await ben.need(feed.id)).getSingleStream(), ["one", 2, { three: 3 }]);
    assert.equal((await ben.need(text.id)).toString(), "Take the A train, grüße 👋");
  }),
];
