// Groups that change while their members work: roles, parents, keys, and members who leave.

import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";

import { scenario } from "../lib/scenario.mjs";
import { SMALL_LIMIT, untilValue } from "../lib/waiting.mjs";

const ROUNDS = 20;

/** Clients with these names, each with an account that the server has. */
async function people(world, server, ...names) {
  const clients = [];
  for (const name of names) {
    const client = await world.client(server, name);
    await client.synced();
    clients.push(client);
  }
  return clients;
}

/** Adds another client's account to a group, as the group's owner. */
async function add(owner, group, member, role) {
  group.addMember(await owner.need(member.accountID), role);
}

const hasRole = (client, role) => (group) => group.roleOf(client.accountID) === role;

export const scenarios = [
  scenario("a group is extended while its members write", async (world) => {
    const server = await world.server();
    const [ada, ben, cleo] = await people(world, server, "Ada", "Ben", "Cleo");
    const group = ada.node.createGroup();
    await add(ada, group, ben, "writer");
    const team = ada.node.createGroup();
    await add(ada, team, cleo, "writer");
    const map = group.createMap({ started: true });
    await ada.synced();
    const bens = await ben.need(map.id);
    const cleos = await cleo.need(map.id);
    assert.equal(cleos.get("started"), undefined, "not a member yet");

    for (let round = 0; round < ROUNDS; round++) {
      map.set(`ada ${round}`, round);
      bens.set(`ben ${round}`, round);
      if (round === ROUNDS / 2) group.extend(team);
      await nextTurn();
    }
    const edits = (name) => Array.from({ length: ROUNDS }, (_, round) => `${name} ${round}`);
    const all = [...edits("ada"), ...edits("ben")];
    for (const seen of [map, bens, cleos]) {
      await untilValue(
        seen,
        "all edits",
        (map) => all.every((key) => map.get(key) !== undefined),
        SMALL_LIMIT,
      );
    }
    await untilValue(await cleo.need(group.id), "the role from the team", hasRole(cleo, "writer"));
    cleos.set("cleo", "is here");
    await untilValue(bens, "Cleo's edit at Ben", (map) => map.get("cleo") === "is here");
  }),

  scenario("a member of a grandparent reads and writes through the chain", async (world) => {
    const server = await world.server();
    const [ada, ben] = await people(world, server, "Ada", "Ben");
    const [top, middle, bottom] = [1, 2, 3].map(() => ada.node.createGroup());
    await add(ada, top, ben, "writer");
    middle.extend(top);
    bottom.extend(middle);
    const map = bottom.createMap({ kept: "in the family" }, null, "private");
    await ada.synced();

    const seen = await ben.need(map.id);
    assert.equal(seen.get("kept"), "in the family");
    seen.set("answer", "heard");
    await untilValue(map, "Ben's edit", (map) => map.get("answer") === "heard");

    bottom.revokeExtend(middle);
    await untilValue(await ben.need(bottom.id), "the loss of the role", hasRole(ben, undefined));
    map.set("kept", "to myself");
    await ada.synced();
    const again = await (await world.device(server, ben)).need(map.id);
    assert.notEqual(again.get("kept"), "to myself");
  }),

  scenario("a member who is removed sees it, and reads nothing newer", async (world) => {
    const server = await world.server();
    const [ada, ben, cleo] = await people(world, server, "Ada", "Ben", "Cleo");
    const group = ada.node.createGroup();
    await add(ada, group, ben, "writer");
    await add(ada, group, cleo, "reader");
    const map = group.createMap({ tune: "Bemsha Swing" }, null, "private");
    await ada.synced();
    const bens = await ben.need(map.id);
    const cleos = await cleo.need(map.id);
    const bensGroup = await ben.need(group.id);
    assert.equal(bens.get("tune"), "Bemsha Swing");
    const keyBefore = group.get("readKey");

    group.removeMember(await ada.need(ben.accountID));
    assert.notEqual(group.get("readKey"), keyBefore, "the key is another one now");
    map.set("tune", "Think of One");
    await untilValue(bensGroup, "the removal at Ben", hasRole(ben, undefined));
    assert.equal(bensGroup.get(ben.accountID), "revoked");
    await untilValue(cleos, "the edit at a member", (map) => map.get("tune") === "Think of One");
    await ada.synced();
    const again = await (await world.device(server, ben)).need(map.id);
    assert.notEqual(again.get("tune"), "Think of One");

    // All clients ignore edits by an account that may not write any more.
    const { "Ben's": _, ...before } = map.toJSON();
    bens.core.makeTransaction([{ op: "set", key: "Ben's", value: "no" }], "trusting");
    map.set("after", true);
    await untilValue(cleos, "the edit after it", (map) => map.get("after") === true);
    assert.deepEqual(cleos.toJSON(), { ...before, after: true });
    assert.deepEqual(map.toJSON(), { ...before, after: true });
  }),

  scenario("keys are rotated again and again while a member writes", async (world) => {
    const server = await world.server();
    const guests = ["Dan", "Eve", "Flo"];
    const [ada, ben, ...others] = await people(world, server, "Ada", "Ben", ...guests);
    const group = ada.node.createGroup();
    await add(ada, group, ben, "writer");
    for (const other of others) await add(ada, group, other, "reader");
    const map = group.createMap({ started: true });
    await ada.synced();
    const bens = await ben.need(map.id);

    for (const [round, other] of others.entries()) {
      bens.set(`before ${round}`, round);
      group.removeMember(await ada.need(other.accountID));
      bens.set(`during ${round}`, round);
      map.set(`after ${round}`, round);
      await untilValue(
        bens,
        "the edit with the new key",
        (map) => map.get(`after ${round}`) === round,
      );
      bens.set(`later ${round}`, round);
    }
    const moments = ["before", "during", "after", "later"];
    const seen = (map) =>
      others.every((_, round) => moments.every((when) => map.get(`${when} ${round}`) === round));
    await untilValue(map, "all edits", seen, SMALL_LIMIT);
    await Promise.all([ada.synced(), ben.synced()]);
    const device = await world.device(server, ben);
    assert(seen(await device.need(map.id)), "a new device reads what all the keys were used for");
  }),

  scenario("a role that is changed is seen by its bearer and by new loaders", async (world) => {
    const server = await world.server();
    const [ada, ben, cleo] = await people(world, server, "Ada", "Ben", "Cleo");
    const group = ada.publicGroup();
    await add(ada, group, ben, "reader");
    const map = group.createMap({ open: true });
    await ada.synced();
    const bens = await ben.need(map.id);
    const bensGroup = await ben.need(group.id);
    for (const role of ["writer", "manager", "admin"]) {
      await add(ada, group, ben, role);
      await untilValue(bensGroup, `role ${role}`, hasRole(ben, role));
    }
    bens.set("ben", 1);
    bensGroup.addMember(await ben.need(cleo.accountID), "writer");
    const cleos = await cleo.need(map.id);
    await untilValue(await cleo.need(group.id), "Cleo's role", hasRole(cleo, "writer"));
    cleos.set("cleo", 2);
    await untilValue(map, "both edits", (map) => map.get("ben") === 1 && map.get("cleo") === 2);
  }),
];
