// Invites: a secret, handed over outside of Jazz, makes an account a member of a group.

import assert from "node:assert/strict";

import { scenario } from "../lib/scenario.mjs";
import { SMALL_LIMIT, untilValue, within } from "../lib/waiting.mjs";

const READS = ["reader", "writer", "manager", "admin"];
const WRITES = ["writeOnly", "writer", "manager", "admin"];

const accept = (client, { id }, secret) =>
  within(SMALL_LIMIT, "acceptance of the invite", client.node.acceptInvite(id, secret));

const invitesAs = (role) =>
  scenario(`an invite makes a ${role} of a stranger`, async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const group = ada.node.createGroup();
    const map = group.createMap({ from: "Ada" }, null, "private");
    const secret = group.createInvite(role);
    await ada.synced();

    const seen = await ben.need(map.id);
    assert.equal(seen.get("from"), undefined);
    await accept(ben, group, secret);
    await untilValue(
      group,
      "the new member at Ada",
      (group) => group.roleOf(ben.accountID) === role,
    );
    if (READS.includes(role)) {
      await untilValue(seen, "what Ada wrote", (map) => map.get("from") === "Ada");
    } else {
      assert.equal(seen.get("from"), undefined);
    }
    if (WRITES.includes(role)) {
      seen.set("answer", `from a ${role}`);
      await untilValue(map, "what Ben wrote", (map) => map.get("answer") === `from a ${role}`);
    }
    await Promise.all([ada.synced(), ben.synced()]);
    const loaded = await (await world.device(server, ben)).need(group.id);
    assert.equal(loaded.roleOf(ben.accountID), role);
  });

export const scenarios = [
  ...["reader", "writer", "writeOnly", "manager", "admin"].map(invitesAs),

  scenario("one invite serves several, also through a CoValue of the group", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const group = ada.node.createGroup();
    const map = group.createMap({ from: "Ada" }, null, "private");
    const secret = group.createInvite("writer");
    await ada.synced();
    for (const name of ["Ben", "Cleo"]) {
      const guest = await world.client(server, name);
      await accept(guest, map, secret);
      const seen = await guest.need(map.id);
      await untilValue(seen, `what Ada wrote at ${name}`, (map) => map.get("from") === "Ada");
      seen.set(name, "was here");
      await untilValue(map, `what ${name} wrote`, (map) => map.get(name) === "was here");
    }
  }),

  scenario("an invite is good after the one who made it is gone", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const ada = await world.client(first, "Ada");
    const group = ada.node.createGroup();
    const map = group.createMap({ from: "Ada" }, null, "private");
    const secret = group.createInvite("reader");
    await ada.synced();
    await ada.close();
    await first.stop();

    const ben = await world.client(await world.server(storage), "Ben");
    await accept(ben, group, secret);
    const seen = await ben.need(map.id);
    await untilValue(seen, "what Ada wrote", (map) => map.get("from") === "Ada");
    await ben.synced();
  }),
];
