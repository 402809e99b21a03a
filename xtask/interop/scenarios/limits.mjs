// The server slows down clients that exceed their limits, and does not disconnect them: their content
// arrives later. The reference server has no such limits.

import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";

import { TRANSFER_LIMIT, assertReads, writeFile } from "../lib/files.mjs";
import { handshakeStatus } from "../lib/handshake.mjs";
import { scenario } from "../lib/scenario.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { againstReference } from "../lib/server.mjs";
import { LIVE_LIMIT, pause, untilValue } from "../lib/waiting.mjs";

const KILOBYTE = 1024;

/** The burst: five times the limit of one second. */
const BURST_SECONDS = 5;

const BYTES_PER_SECOND = 64 * KILOBYTE;
const MESSAGES_PER_SECOND = 20;

/**
 * Encryption and two rounds of base64 make more than 1,050 KiB of this: at least 11 s. Clients
 * disconnect after 10 s without a ping.
 */
const FILE_BYTES = 600 * KILOBYTE;
const FILE_SECONDS = 11;

/** One message each: some seconds' worth more than the burst. */
const MAPS = 180;
const MAPS_SECONDS = MAPS / MESSAGES_PER_SECOND - BURST_SECONDS;

/** Pings are sent every 1.5 s; this is for a busy machine. */
const PING_SECONDS = 2;

/** The interval of the other clients' edits, well within the limits. */
const EDIT_INTERVAL = 200;

const TOO_MANY_REQUESTS = 429;
const ACCEPTED = 101;

const limits = [
  scenario("an upload beyond the limits is slow and delays no other client", async (world) => {
    const server = await world.server(undefined, {
      flags: [
        "--bytes-per-second", String(BYTES_PER_SECOND),
        "--messages-per-second", String(MESSAGES_PER_SECOND),
      ],
    });
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    let pings = 0;
    const overhear = (frame) => {
      if (frame.includes('"type":"ping"')) pings++;
    };
    const bulky = await world.client(server, "Bulky", { overhear });
    const busy = await world.client(server, "Busy");
    const map = ada.publicGroup().createMap({ count: -1 });
    const song = bulky.publicGroup("writer").createMap({ title: "Downbeat" });
    await Promise.all([ada.synced(), bulky.synced()]);
    const seen = await ben.need(map.id);
    const title = await ben.need(song.id);

    const start = performance.now();
    const seconds = () => (performance.now() - start) / 1_000;
    const bytes = seededBytes("file beyond the limit", FILE_BYTES);
    const file = await writeFile(bulky.publicGroup(), bytes);
    const upload = bulky.synced(TRANSFER_LIMIT).then(seconds);
    const group = busy.publicGroup();
    const maps = [];
    for (let index = 0; index < MAPS; index++) {
      maps.push(group.createMap({ index }));
      await nextTurn();
    }
    const creation = busy.synced(TRANSFER_LIMIT).then(seconds);

    let isDone = false;
    const done = Promise.all([upload, creation]).finally(() => (isDone = true));
    done.catch(() => {});
    for (let count = 0; !isDone; count++) {
      map.set("count", count);
      await untilValue(seen, `update ${count} at Ben`, (map) => map.get("count") === count);
      // A client that is slowed down still receives edits.
      title.set("title", `Downbeat ${count}`);
      await untilValue(song, "the new title", (song) => song.get("title") === `Downbeat ${count}`);
      await pause(EDIT_INTERVAL);
    }
    const [uploaded, created] = await done;
    assert(uploaded > FILE_SECONDS, `the file was there after ${uploaded} s`);
    assert(created > MAPS_SECONDS, `the maps were there after ${created} s`);
    assert(pings > uploaded / PING_SECONDS, `${pings} pings in ${uploaded} s`);
    for (const { name, connections } of [ada, ben, bulky, busy]) {
      assert.equal(connections, 1, `${name} stays connected`);
    }

    const cleo = await world.client(server, "Cleo");
    await assertReads(cleo, file.id, bytes);
    // No more than a burst, because answers are acknowledged.
    const last = maps.slice(-20);
    const found = await Promise.all(last.map(({ id }) => cleo.need(id)));
    assert.deepEqual(found.map((map) => map.get("index")), last.map((map) => map.get("index")));
  }),

  scenario("one address has so many connections, and then waits for a place", async (world) => {
    const server = await world.server("memory", {
      flags: ["--max-connections-per-address", "2"],
    });
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const map = ada.publicGroup().createMap({ state: "there" });
    await ada.synced();
    await ben.need(map.id);
    assert.equal(await handshakeStatus(server.url), TOO_MANY_REQUESTS);

    const waiting = world.client(server, "Cleo");
    waiting.catch(() => {});
    await pause(EDIT_INTERVAL);
    assert.deepEqual([ada.connections, ben.connections], [1, 1]);
    await ben.close();
    const cleo = await waiting;
    assert.equal((await cleo.need(map.id)).get("state"), "there");
    assert.equal(await handshakeStatus(server.url), TOO_MANY_REQUESTS);
    await ada.close();
    const deadline = Date.now() + LIVE_LIMIT;
    while ((await handshakeStatus(server.url)) !== ACCEPTED) {
      assert(Date.now() < deadline, "the place is free");
      await pause(50);
    }
  }),
];

export const scenarios = againstReference ? [] : limits;
