// A client that reads slowly, or not at all for a while, does not delay other clients, and gets
// everything in the end.

import assert from "node:assert/strict";

import { TRANSFER_LIMIT, assertReads, writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { SMALL_LIMIT, pause, untilValue } from "../lib/waiting.mjs";

const MEGABYTE = 1024 * 1024;

/** More than all buffers between a server and a client that does not read. */
const FILES = 3;
const FILE_BYTES = 4 * MEGABYTE;

/** Well below the 10 s without a frame after which clients disconnect. */
const SILENCE = 3_000;

const UPDATES = 100;

export const scenarios = [
  scenario("a client that stops reading does not delay others, and catches up", async (world) => {
    const server = await world.server();
    const line = await world.proxy(server);
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const slow = await world.client(line, "Slow");
    const group = ada.publicGroup();
    const map = group.createMap({ count: -1 });
    await ada.synced();
    const seen = await ben.need(map.id);
    const slowly = await slow.need(map.id);
    const bytes = Array.from({ length: FILES }, (_, file) =>
      seededBytes(`slow file ${file}`, FILE_BYTES),
    );
    const files = [];
    for (const content of bytes) files.push(await writeFile(group, content));
    await ada.synced(TRANSFER_LIMIT);

    // Loads far more than it reads.
    const downloads = files.map(({ id }, file) => assertReads(slow, id, bytes[file]));
    for (const download of downloads) download.catch(() => {});
    await pause(50);
    line.hold();
    const deadline = Date.now() + SILENCE;
    for (let count = 0; count < UPDATES; count++) {
      map.set("count", count);
      await untilValue(seen, `update ${count} at Ben`, (map) => map.get("count") === count);
    }
    await ada.synced();
    await pause(Math.max(0, deadline - Date.now()));
    assert.notEqual(slowly.get("count"), UPDATES - 1, "the slow client does not read");

    line.release();
    await untilValue(
      slowly,
      "the last update at the slow client",
      (map) => map.get("count") === UPDATES - 1,
      SMALL_LIMIT,
    );
    await Promise.all(downloads);
  }),

  scenario("small edits reach a slow client before the file that it loads", async (world) => {
    const server = await world.server();
    const line = await world.proxy(server);
    const ada = await world.client(server, "Ada");
    const slow = await world.client(line, "Slow");
    const group = ada.publicGroup();
    const map = group.createMap({ state: "old" });
    const bytes = seededBytes("file on a slow line", FILE_BYTES);
    const file = await writeFile(group, bytes);
    await ada.synced(TRANSFER_LIMIT);
    const seen = await slow.need(map.id);

    line.slowDown(2 * MEGABYTE);
    const download = assertReads(slow, file.id, bytes);
    download.catch(() => {});
    let isComplete = false;
    download.then(() => {
      isComplete = true;
    });
    await pause(200);
    map.set("state", "new");
    await untilValue(seen, "the edit", (map) => map.get("state") === "new", SMALL_LIMIT);
    assert(!isComplete, "the file is still on its way");
    line.slowDown(Infinity);
    await download;
  }),

  scenario("a slow writer does not delay others", async (world) => {
    const server = await world.server();
    const line = await world.proxy(server);
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const slow = await world.client(line, "Slow");
    const map = ada.publicGroup().createMap({ count: -1 });
    await ada.synced();
    const seen = await ben.need(map.id);

    line.slowDown(MEGABYTE);
    const bytes = seededBytes("file from a slow line", MEGABYTE);
    const file = await writeFile(slow.publicGroup(), bytes);
    for (let count = 0; count < UPDATES; count++) {
      map.set("count", count);
      await untilValue(seen, `update ${count} at Ben`, (map) => map.get("count") === count);
    }
    line.slowDown(Infinity);
    await slow.synced(TRANSFER_LIMIT);
    await assertReads(ben, file.id, bytes);
  }),
];
