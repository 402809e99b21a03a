// The reference server's SQLite file: one server creates it, the other continues with it, and the
// first takes it back. Clients notice only the restart.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";

import { TRANSFER_LIMIT, assertReads, writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { AWKWARD_VALUES, seededBytes } from "../lib/seeded.mjs";
import { againstReference, downbeat } from "../lib/server.mjs";
import { inspect } from "../lib/sqlite-file.mjs";
import { SMALL_LIMIT, pause, untilValue, within } from "../lib/waiting.mjs";

/** The schema version of the reference. */
const USER_VERSION = 7;

const FILE_BYTES = 1_500 * 1024;

/** The reference starts to erase a second after its start, and Downbeat not later. */
const ERASURE_LIMIT = 10_000;

/** The reference acknowledges content shortly before it is in the file. */
const REFERENCE_STORING = 1_000;

const TESTED = {};
const REFERENCE = { reference: true };

/** The servers that use the file one after the other, and whether it is converted in between. */
const TURNS = [
  ["from the reference to Downbeat and back", REFERENCE, TESTED],
  ["from Downbeat to the reference and back", TESTED, REFERENCE],
];
const CONVERTED_TURN = ["from the reference to Downbeat and back, converted", REFERENCE, TESTED, true];
const ALL_TURNS = againstReference ? TURNS : [...TURNS, CONVERTED_TURN];

/** Converts a file to the native format and back, if there is one. */
async function convertTwice(path) {
  if (!existsSync(path)) return;
  const convert = (format, from, to) =>
    downbeat("convert", "--quiet", "--storage-format", format, `sqlite:${from}`, `sqlite:${to}`);
  const native = `${path}.native`;
  await convert("native", path, native);
  await rm(path);
  await convert("reference", native, path);
  await rm(native);
}

/** A scenario for each order. `play` gets both kinds of server and the path of a new file. */
const inTurns = (name, play, turns = TURNS) =>
  turns.map(([order, one, other, isConverted]) =>
    scenario(`${name} (${order})`, async (world) => {
      const path = `${await world.directory()}/storage.db`;
      const start = (kind) => async (options) => {
        if (isConverted) await convertTwice(path);
        return world.server(`sqlite:${path}`, { ...kind, ...options });
      };
      await play(world, { one: start(one), other: start(other), path, kinds: [one, other] });
    }),
  );

const isDeleting = (session) => session.endsWith("$");

/** The answer to a client without the CoValue: only its tombstone. */
async function assertTombstone(world, server, id) {
  const answer = await (await world.rawPeer(server)).load(id);
  assert.equal(answer.action, "content");
  const sessions = Object.keys(answer.new);
  assert(sessions.length > 0 && sessions.every(isDeleting), `only tombstones: ${sessions}`);
}

/** The rows of a CoValue's sessions, with their transactions and signatures. */
function sessionsOf(path, id) {
  return inspect(path, (file) =>
    file.query(
      `SELECT s.sessionID AS session, s.lastIdx AS count, s.lastSignature AS signature,
        (SELECT COUNT(*) FROM transactions t WHERE t.ses = s.rowID) AS transactions,
        (SELECT COUNT(*) FROM signatureAfter a WHERE a.ses = s.rowID) AS checkpoints
      FROM sessions s JOIN coValues c ON c.rowID = s.coValue WHERE c.id = ?`,
      [id],
    ),
  );
}

/** Asserts the invariants of a file that no server has open. */
function assertWhole(path) {
  inspect(path, (file) => {
    assert.equal(file.get("PRAGMA user_version").user_version, USER_VERSION);
    assert.deepEqual(file.query("PRAGMA integrity_check"), [{ integrity_check: "ok" }]);
    const torn = file.query(
      `SELECT s.sessionID FROM sessions s WHERE s.lastIdx !=
        (SELECT COUNT(*) FROM transactions t WHERE t.ses = s.rowID AND t.idx < s.lastIdx)`,
    );
    assert.deepEqual(torn, [], "every session has as many transactions as it counts");
  });
}

/** The servers that have not acknowledged all of a CoValue, according to the file. */
const unsynced = (path, { id }) =>
  inspect(path, (file) =>
    file.query("SELECT peer_id AS peer FROM unsynced_covalues WHERE co_value_id = ?", [id]),
  );

/** Waits for a CoValue that must reach a server without an edit. */
async function untilAvailable(world, server, { id }) {
  const ben = await world.client(server, "Ben");
  const deadline = Date.now() + SMALL_LIMIT;
  while ((await ben.load(id)) === "unavailable") {
    assert(Date.now() < deadline, "what was written comes up");
    await pause(100);
  }
  return ben.need(id);
}

export const scenarios = [
  ...inTurns("maps, lists, files and branches", async (world, { one, other, path }) => {
    const first = await one();
    const ada = await world.client(first, "Ada");
    const group = ada.publicGroup("writer");
    const map = group.createMap({ ...AWKWARD_VALUES });
    const list = group.createList(["one"]);
    const bytes = seededBytes("file in a file", FILE_BYTES);
    const stream = await writeFile(group, bytes);
    await ada.synced(TRANSFER_LIMIT);
    await first.stop();
    assertWhole(path);

    const second = await other();
    const ben = await world.client(second, "Ben");
    assert.deepEqual((await ben.need(map.id)).toJSON(), AWKWARD_VALUES);
    await assertReads(ben, stream.id, bytes);
    (await ben.need(list.id)).append("two");
    // The same session of the same account continues on the other server.
    const device = await world.device(second, ada);
    (await device.need(map.id)).set("again", "äöü\u0000\ud83d\ude00");
    const branch = await within(
      SMALL_LIMIT,
      "branch",
      device.node.checkoutBranch(list.id, "draft"),
    );
    branch.append("drafted");
    const more = seededBytes("second file in a file", FILE_BYTES);
    const others = await writeFile(await ben.need(group.id), more);
    await Promise.all([ben.synced(TRANSFER_LIMIT), device.synced()]);
    await second.stop();
    assertWhole(path);
    for (const { id } of [stream, others]) {
      const [session] = sessionsOf(path, id);
      assert(session.checkpoints >= 10, `${session.checkpoints} signatures within the file`);
    }

    const third = await one();
    const cleo = await world.client(third, "Cleo");
    const seen = await cleo.need(map.id);
    assert.deepEqual(seen.toJSON(), { ...AWKWARD_VALUES, again: "äöü\u0000\ud83d\ude00" });
    assert.deepEqual((await cleo.need(list.id)).asArray(), ["one", "two"]);
    const drafted = await within(
      SMALL_LIMIT,
      "branch at Cleo",
      cleo.node.checkoutBranch(list.id, "draft"),
    );
    assert.equal(drafted.id, branch.id);
    assert.deepEqual(drafted.asArray().toSorted(), ["drafted", "one", "two"]);
    await assertReads(cleo, stream.id, bytes);
    await assertReads(cleo, others.id, more);
    seen.set("third", 3);
    await cleo.synced();
    await third.stop();
    assertWhole(path);

    const fourth = await other();
    const dan = await world.client(fourth, "Dan");
    assert.equal((await dan.need(map.id)).get("third"), 3);
    await assertReads(dan, others.id, more);
  }, ALL_TURNS),

  ...inTurns("one session that both servers write", async (world, { one, other, path }) => {
    let server = await one();
    const line = await world.proxy(server);
    const ada = await world.client(line, "Ada");
    // Long enough that both servers store signatures in the middle of the log.
    const entry = "x".repeat(30_000);
    const list = ada.publicGroup().createList([]);
    for (let turn = 0; turn < 4; turn++) {
      for (let index = 0; index < 5; index++) list.append(`${turn}.${index} ${entry}`);
      await ada.synced();
      line.shut();
      await server.stop();
      assertWhole(path);
      server = await (turn % 2 === 0 ? other : one)();
      line.connectTo(server);
      line.open();
      const reader = await world.client(server, `Reader ${turn}`);
      const read = await reader.need(list.id);
      const whole = list.asArray().length;
      await untilValue(read, "whole list", (list) => list.asArray().length === whole);
      assert(isDeepStrictEqual(read.asArray(), list.asArray()), "the same entries");
      await ada.reconnected();
    }
    await server.stop();
    const [{ count, transactions, checkpoints }] = sessionsOf(path, list.id);
    assert.equal(count, transactions);
    assert(checkpoints >= 4, `${checkpoints} signatures within the log`);
  }),

  ...inTurns("deleted, erased, and still deleted", async (world, { one, other, path }) => {
    const first = await one();
    const ada = await world.client(first, "Ada");
    const group = ada.publicGroup("writer");
    const maps = ["first", "second", "third"].map((name) => {
      return group.createMap({ name }, null, "trusting");
    });
    const kept = group.createMap({ kept: true });
    await ada.synced();
    maps[0].core.deleteCoValue();
    await ada.synced();
    await first.stop();
    assertWhole(path);

    const second = await other();
    await assertTombstone(world, second, maps[0].id);
    const device = await world.device(second, ada);
    (await device.need(maps[1].id)).core.deleteCoValue();
    await device.synced();
    await assertTombstone(world, second, maps[1].id);
    await second.stop();
    assertWhole(path);

    const third = await one();
    for (const { id } of maps.slice(0, 2)) await assertTombstone(world, third, id);
    const cleo = await world.client(third, "Cleo");
    assert.equal((await cleo.need(maps[2].id)).get("name"), "third");
    assert.equal((await cleo.need(kept.id)).get("kept"), true);
    // By now one of them erases, which the file shows without a stop.
    const deadline = Date.now() + ERASURE_LIMIT;
    for (const { id } of maps.slice(0, 2)) {
      while (!sessionsOf(path, id).every(({ session }) => isDeleting(session))) {
        assert(Date.now() < deadline, `the content of ${id} is erased`);
        await pause(50);
      }
    }
    await third.stop();
    const status = inspect(path, (file) =>
      file.query("SELECT coValueID AS id, status FROM deletedCoValues ORDER BY id"),
    );
    const expected = maps.slice(0, 2).map(({ id }) => ({ id, status: 1 }));
    assert.deepEqual(status, expected.toSorted((a, b) => (a.id < b.id ? -1 : 1)));
    assertWhole(path);

    const fourth = await other();
    for (const { id } of maps.slice(0, 2)) await assertTombstone(world, fourth, id);
    const dan = await world.client(fourth, "Dan");
    assert.equal((await dan.need(maps[2].id)).get("name"), "third");
  }, ALL_TURNS),

  ...inTurns("a server that is killed leaves a file", async (world, { one, other, path, kinds }) => {
    const kill = async (server, kind) => {
      if (kind === REFERENCE) await pause(REFERENCE_STORING);
      await server.kill();
    };
    const first = await one();
    const ada = await world.client(first, "Ada");
    const group = ada.publicGroup("writer");
    const maps = [];
    for (let index = 0; index < 20; index++) {
      maps.push(group.createMap({ index }));
      await ada.synced();
    }
    await kill(first, kinds[0]);

    const second = await other();
    const ben = await world.client(second, "Ben");
    for (const [index, { id }] of maps.entries()) {
      const map = await ben.need(id);
      assert.equal(map.get("index"), index);
      map.set("ben", index);
    }
    await ben.synced();
    await kill(second, kinds[1]);

    const third = await one();
    const cleo = await world.client(third, "Cleo");
    for (const [index, { id }] of maps.entries()) {
      assert.deepEqual((await cleo.need(id)).toJSON(), { index, ben: index });
    }
    await third.stop();
    assertWhole(path);
  }),
];

// As an edge, the reference does not track unacknowledged content, so this tests Downbeat.
if (!againstReference) {
  scenarios.push(
    scenario("what an edge of ours has not passed on goes up from the reference", async (world) => {
      const path = `${await world.directory()}/storage.db`;
      const core = await world.server("memory");
      const line = await world.proxy(core);
      line.shut();
      const first = await world.server(`sqlite:${path}`, { upstreams: [line] });
      const ada = await world.client(first, "Ada");
      const map = ada.publicGroup().createMap({ written: "at the edge" });
      await ada.synced();
      await first.stop();
      assert.deepEqual(unsynced(path, map), [{ peer: `${line.url}/` }]);

      line.open();
      await world.server(`sqlite:${path}`, { ...REFERENCE, upstreams: [line] });
      assert.equal((await untilAvailable(world, core, map)).get("written"), "at the edge");
    }),
  );
}
