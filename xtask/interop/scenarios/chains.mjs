// Chains of servers: clients connect to an edge, and the edge syncs with a core. The server under
// test plays each role, with the reference in the other one.

import assert from "node:assert/strict";

import { TRANSFER_LIMIT, assertReads, writeFile } from "../lib/files.mjs";
import { OfflineAuthor } from "../lib/offline-author.mjs";
import { scenario } from "../lib/scenario.mjs";
import { AWKWARD_VALUES, seededBytes } from "../lib/seeded.mjs";
import { againstReference } from "../lib/server.mjs";
import { SMALL_LIMIT, pause, untilValue, within } from "../lib/waiting.mjs";

const FILE_BYTES = 3 * 1024 * 1024;

/** The time limit for an edit through two servers. */
const CHAIN_LIMIT = 5_000;

const TESTED = {};
const REFERENCE = { reference: true };

/** The chains for each scenario; against the reference there is only one. */
const CHAINS = againstReference
  ? [["edge and core", TESTED, TESTED]]
  : [
      ["edge and core", TESTED, TESTED],
      ["edge to a reference core", TESTED, REFERENCE],
      ["reference edge to a core", REFERENCE, TESTED],
    ];

/** A scenario for each kind of chain. `play` gets functions that start an edge and a core. */
const inChains = (name, play) =>
  CHAINS.map(([kind, edge, core]) =>
    scenario(`${name} (${kind})`, (world) =>
      play(world, {
        core: (storage) => world.server(storage, core),
        edge: (...upstreams) => world.server(undefined, { ...edge, upstreams }),
        edgeOn: (storage, upstream) => world.server(storage, { ...edge, upstreams: [upstream] }),
      }),
    ),
  );

/** Resolves when a server has the client's state of a CoValue. */
async function untilServerHas(world, server, coValue) {
  const peer = await world.rawPeer(server);
  const expected = coValue.core.knownState();
  const has = async () => {
    for (;;) {
      peer.send({ action: "load", ...expected });
      const { id } = expected;
      const answer = await peer.next("answer", (message) => message.id === id);
      const counts = Object.entries(expected.sessions);
      if (counts.every(([session, count]) => answer.sessions?.[session] === count)) return;
      await pause(20);
    }
  };
  await within(SMALL_LIMIT, `${coValue.id} at the other server`, has());
}

const allEdits = (keys) => (map) => keys.every((key) => map.get(key) !== undefined);

export const scenarios = [
  ...inChains(
    "what is written at an edge is read at the core and at another edge",
    async (world, start) => {
      const core = await start.core();
      const [left, right] = [await start.edge(core), await start.edge(core)];
      const ada = await world.client(left, "Ada");
      const group = ada.publicGroup("writer");
      const map = group.createMap({ ...AWKWARD_VALUES });
      await ada.synced();
      await untilServerHas(world, core, map);

      const ben = await world.client(core, "Ben");
      assert.deepEqual((await ben.need(map.id)).toJSON(), AWKWARD_VALUES);
      const cleo = await world.client(right, "Cleo");
      const seen = await cleo.need(map.id);
      assert.deepEqual(seen.toJSON(), AWKWARD_VALUES);

      // Later edits arrive live, in both directions.
      for (let turn = 0; turn < 6; turn++) {
        const [from, to] = turn % 2 === 0 ? [map, seen] : [seen, map];
        from.set("turn", turn);
        await untilValue(to, `turn ${turn}`, (map) => map.get("turn") === turn, CHAIN_LIMIT);
      }
    },
  ),

  ...inChains("a file goes through the chain", async (world, start) => {
    const core = await start.core();
    const [left, right] = [await start.edge(core), await start.edge(core)];
    const bytes = seededBytes("file in a chain", FILE_BYTES);
    const ada = await world.client(left, "Ada");
    const stream = await writeFile(ada.publicGroup(), bytes);
    await ada.synced(TRANSFER_LIMIT);
    await untilServerHas(world, core, stream);
    await assertReads(await world.client(right, "Ben"), stream.id, bytes);
  }),

  ...inChains("a CoValue that no server has is soon unavailable", async (world, start) => {
    const edge = await start.edge(await start.core());
    const ada = await world.client(edge, "Ada");
    const { map } = new OfflineAuthor("Nina");
    assert.equal(await ada.load(map.id, CHAIN_LIMIT), "unavailable");
  }),

  ...inChains("an edge that is cut off works, and makes up for it", async (world, start) => {
    const core = await start.core();
    const line = await world.proxy(core);
    const edge = await start.edge(line);
    const ada = await world.client(edge, "Ada");
    const ben = await world.client(edge, "Ben");
    const cleo = await world.client(core, "Cleo");
    const map = ada.publicGroup("writer").createMap({ started: true });
    await ada.synced();
    const bens = await ben.need(map.id);
    await untilServerHas(world, core, map);
    const cleos = await cleo.need(map.id);

    line.shut();
    map.set("ada", 1);
    await untilValue(bens, "the edit behind the same edge", (map) => map.get("ada") === 1);
    cleos.set("cleo", 1);
    const made = ada.publicGroup().createMap({ made: "behind the edge" });
    await ada.synced();
    await pause(100);
    assert.equal(map.get("cleo"), undefined);

    line.open();
    for (const side of [map, bens, cleos]) {
      await untilValue(side, "both edits", allEdits(["ada", "cleo"]), SMALL_LIMIT);
    }
    await untilServerHas(world, core, made);
  }),

  ...inChains(
    "an edge that is stopped with news for the core sends them later",
    async (world, start) => {
      const core = await start.core();
      const line = await world.proxy(core);
      const storage = await world.storageOnDisk();
      const edge = await start.edgeOn(storage, line);
      const ada = await world.client(edge, "Ada");
      const group = ada.publicGroup();
      const map = group.createMap({ state: "old" });
      await ada.synced();
      await untilServerHas(world, core, map);
      line.shut();
      map.set("state", "new");
      const added = group.createMap({ made: "unseen by the core" });
      await ada.synced();
      await ada.close();
      await edge.stop();

      line.open();
      await start.edgeOn(storage, line);
      for (const coValue of [map, added]) await untilServerHas(world, core, coValue);
      const ben = await world.client(core, "Ben");
      assert.equal((await ben.need(map.id)).get("state"), "new");
      assert.equal((await ben.need(added.id)).get("made"), "unseen by the core");
    },
  ),

  ...inChains(
    "an edge that is started again takes up what its clients watch",
    async (world, start) => {
      const core = await start.core();
      const storage = await world.storageOnDisk();
      const first = await start.edgeOn(storage, core);
      const line = await world.proxy(first);
      const ada = await world.client(line, "Ada");
      const ben = await world.client(core, "Ben");
      const map = ada.publicGroup("writer").createMap({ started: true });
      await ada.synced();
      await untilServerHas(world, core, map);
      const seen = await ben.need(map.id);
      line.shut();
      await first.stop();
      seen.set("meanwhile", 1);
      await ben.synced();

      line.connectTo(await start.edgeOn(storage, core));
      line.open();
      await untilValue(map, "what was missed", allEdits(["meanwhile"]), SMALL_LIMIT);
      seen.set("afterwards", 1);
      await untilValue(map, "what comes now", allEdits(["afterwards"]), CHAIN_LIMIT);
      map.set("back", 1);
      await untilValue(seen, "what goes up", allEdits(["back"]), CHAIN_LIMIT);
    },
  ),

  ...inChains(
    "a core that comes back empty gets what its edge's clients hold",
    async (world, start) => {
      const first = await start.core("memory");
      const line = await world.proxy(first);
      const edge = await start.edge(line);
      const ada = await world.client(edge, "Ada");
      const map = ada.publicGroup().createMap({ before: 1 });
      await ada.synced();
      await untilServerHas(world, first, map);
      line.shut();
      await first.stop();

      const second = await start.core("memory");
      line.connectTo(second);
      line.open();
      map.set("after", 2);
      await ada.synced();
      await untilServerHas(world, second, map);
      const ben = await world.client(second, "Ben");
      assert.deepEqual((await ben.need(map.id)).toJSON(), { before: 1, after: 2 });
    },
  ),

  ...inChains("a deletion goes through the chain", async (world, start) => {
    const core = await start.core();
    const [left, right] = [await start.edge(core), await start.edge(core)];
    const ada = await world.client(left, "Ada");
    const ben = await world.client(right, "Ben");
    const map = ada.publicGroup().createMap({ kept: "for now" }, null, "trusting");
    await ada.synced();
    await untilServerHas(world, core, map);
    await ben.need(map.id);
    const deleted = new Promise((resolve) => {
      const { core } = ben.node.getLoaded(map.id);
      world.defer(core.subscribe((core) => core.isDeleted && resolve()));
    });
    map.core.deleteCoValue();
    await within(CHAIN_LIMIT, "deletion at the other edge", deleted);
    await ada.synced();
  }),

  ...inChains("an edge with two cores gives both everything", async (world, start) => {
    const cores = [await start.core(), await start.core()];
    const edge = await start.edge(...cores);
    const ada = await world.client(edge, "Ada");
    const group = ada.publicGroup();
    const map = group.createMap({ from: "Ada" });
    await ada.synced();
    const cleo = await world.client(cores[1], "Cleo");
    const cleos = cleo.publicGroup().createMap({ from: "Cleo" });
    await cleo.synced();
    for (const core of cores) await untilServerHas(world, core, map);
    assert.equal((await ada.need(cleos.id)).get("from"), "Cleo");
    map.set("later", true);
    for (const core of cores) await untilServerHas(world, core, map);
  }),

  scenario("two servers that are each other's upstream", async (world) => {
    const back = await world.proxy({ url: "ws://127.0.0.1:1" });
    const left = await world.server(undefined, { upstreams: [back] });
    const right = await world.server(undefined, { upstreams: [left] });
    back.connectTo(right);
    const ada = await world.client(left, "Ada");
    const ben = await world.client(right, "Ben");
    const map = ada.publicGroup("writer").createMap({ from: "Ada" });
    await ada.synced();
    await untilServerHas(world, right, map);
    const seen = await ben.need(map.id);
    for (let turn = 0; turn < 6; turn++) {
      const [from, to] = turn % 2 === 0 ? [map, seen] : [seen, map];
      from.set("turn", turn);
      await untilValue(to, `turn ${turn}`, (map) => map.get("turn") === turn, CHAIN_LIMIT);
    }
    await Promise.all([ada.synced(), ben.synced()]);
  }),

  scenario("three servers in a row", async (world) => {
    const core = await world.server();
    const middle = await world.server(undefined, { upstreams: [core] });
    const edge = await world.server(undefined, { upstreams: [middle] });
    const ada = await world.client(edge, "Ada");
    const map = ada.publicGroup("writer").createMap({ from: "Ada" });
    await ada.synced();
    await untilServerHas(world, core, map);
    const ben = await world.client(core, "Ben");
    const seen = await ben.need(map.id);
    seen.set("answer", "Ben");
    await untilValue(map, "the answer", (map) => map.get("answer") === "Ben", CHAIN_LIMIT);
    const { map: missing } = new OfflineAuthor("Nina");
    assert.equal(await ada.load(missing.id, CHAIN_LIMIT), "unavailable");
  }),
];
