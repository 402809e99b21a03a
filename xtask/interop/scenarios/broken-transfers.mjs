// A connection that is lost during a large transfer. The transfer continues, and the bytes are the
// same.

import assert from "node:assert/strict";

import { TRANSFER_LIMIT, assertReads, writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { againstReference } from "../lib/server.mjs";

const MEGABYTE = 1024 * 1024;
const FILE_BYTES = 6 * MEGABYTE;

/** The growth of a file through base64 and JSON. Encryption adds very little. */
const ON_THE_WIRE = FILE_BYTES * 1.8;

/** Slow enough that the cut comes during the transfer in spite of all buffers. */
const BYTES_PER_SECOND = 12 * MEGABYTE;

/** The part that an interrupted transfer may repeat: the bytes in flight, not the whole. */
const REPEATED = 0.8 * ON_THE_WIRE;

/** How often a transfer is cut. */
const CUTS = 3;

/** The bytes that pass before each cut. */
const BYTES_PER_CUT = 1.5 * MEGABYTE;

/**
 * After an interrupted download a client reconnects and claims to have everything up to the
 * announced end. The reference believes it, so that the rest comes only after the next edit, which
 * shows the client's true state; this scenario makes that edit. Downbeat notices without it.
 */
function writeMore(stream) {
  if (againstReference) stream.endBinaryStream();
}

export const scenarios = [
  scenario("an upload that is cut three times arrives complete", async (world) => {
    const server = await world.server();
    const line = await world.proxy(server);
    const bytes = seededBytes("broken upload", FILE_BYTES);
    const ada = await world.client(line, "Ada");
    const group = ada.publicGroup();
    await ada.synced();

    line.slowDown(BYTES_PER_SECOND);
    const passed = line.count("up");
    const writing = writeFile(group, bytes);
    for (let cut = 0; cut < CUTS; cut++) {
      await line.cutAfter("up", BYTES_PER_CUT, TRANSFER_LIMIT);
    }
    const stream = await writing;
    await ada.synced(TRANSFER_LIMIT);
    assert(passed() < ON_THE_WIRE + REPEATED, `${passed()} bytes for a file of ${bytes.length}`);
    await assertReads(await world.client(server, "Ben"), stream.id, bytes);
  }),

  scenario("a download that is cut three times arrives complete", async (world) => {
    const server = await world.server();
    const bytes = seededBytes("broken download", FILE_BYTES);
    const ada = await world.client(server, "Ada");
    const stream = await writeFile(ada.publicGroup(), bytes);
    await ada.synced(TRANSFER_LIMIT);

    const line = await world.proxy(server);
    const ben = await world.client(line, "Ben");
    await ben.synced();
    line.slowDown(BYTES_PER_SECOND);
    const passed = line.count("down");
    const reading = assertReads(ben, stream.id, bytes);
    // Awaited below; until then its error is handled.
    reading.catch(() => {});
    for (let cut = 0; cut < CUTS; cut++) {
      await line.cutAfter("down", BYTES_PER_CUT, TRANSFER_LIMIT);
      writeMore(stream);
    }
    await reading;
    assert(passed() < ON_THE_WIRE + REPEATED, `${passed()} bytes for a file of ${bytes.length}`);
  }),

  scenario("an upload goes on at a server that was killed in the middle", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const line = await world.proxy(first);
    const bytes = seededBytes("upload to two servers", FILE_BYTES);
    const ada = await world.client(line, "Ada");
    const group = ada.publicGroup();
    await ada.synced();

    line.slowDown(BYTES_PER_SECOND);
    const writing = writeFile(group, bytes);
    await line.cutAfter("up", FILE_BYTES / 2, TRANSFER_LIMIT);
    line.shut();
    const stream = await writing;
    await first.kill();
    const second = await world.server(storage);
    line.connectTo(second);
    line.open();
    await ada.reconnected();
    await ada.synced(TRANSFER_LIMIT);
    await assertReads(await world.client(second, "Ben"), stream.id, bytes);
  }),

  scenario("a download goes on at a server that was killed in the middle", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const bytes = seededBytes("download from two servers", FILE_BYTES);
    const adas = await world.proxy(first);
    const ada = await world.client(adas, "Ada");
    const stream = await writeFile(ada.publicGroup(), bytes);
    await ada.synced(TRANSFER_LIMIT);

    const line = await world.proxy(first);
    const ben = await world.client(line, "Ben");
    await ben.synced();
    line.slowDown(BYTES_PER_SECOND);
    const reading = assertReads(ben, stream.id, bytes);
    reading.catch(() => {});
    await line.cutAfter("down", FILE_BYTES / 2, TRANSFER_LIMIT);
    line.shut();
    await first.kill();
    const second = await world.server(storage);
    for (const to of [adas, line]) to.connectTo(second);
    line.open();
    writeMore(stream);
    await reading;
  }),
];
