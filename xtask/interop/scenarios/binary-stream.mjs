// A file comes back with the same bytes.

import { CHUNK_BYTES, TRANSFER_LIMIT, assertReads, startFile, writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { SMALL_LIMIT, untilValue } from "../lib/waiting.mjs";

const FILE_BYTES = 5 * 1024 * 1024;

export const scenarios = [
  scenario("a file of 5 MB goes up, comes down and outlives the server", async (world) => {
    const storage = await world.storageOnDisk();
    const first = await world.server(storage);
    const bytes = seededBytes("5 MB file", FILE_BYTES);
    const ada = await world.client(first, "Ada");
    const stream = await writeFile(ada.publicGroup(), bytes);
    await ada.synced(TRANSFER_LIMIT);
    await assertReads(await world.client(first, "Ben"), stream.id, bytes);
    await first.stop();

    const second = await world.server(storage);
    await assertReads(await world.client(second, "Cleo"), stream.id, bytes);
  }),

  scenario(
    "a reader that is there from the start follows the file as it is written",
    async (world) => {
      const server = await world.server();
      const bytes = seededBytes("followed file", FILE_BYTES / 5);
      const ada = await world.client(server, "Ada");
      const ben = await world.client(server, "Ben");
      const group = ada.publicGroup();
      const stream = group.createBinaryStream();
      await ada.synced();
      const seen = await ben.need(stream.id);

      startFile(stream, bytes.length);
      for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
        const sofar = start / CHUNK_BYTES + 1;
        stream.pushBinaryStreamChunk(bytes.subarray(start, start + CHUNK_BYTES));
        await untilValue(
          seen,
          `chunk ${sofar}`,
          (stream) => stream.getBinaryChunks(true)?.chunks.length === sofar,
        );
      }
      stream.endBinaryStream();
      await assertReads(ben, stream.id, bytes);
    },
  ),

  scenario("small edits get through while a file is on its way", async (world) => {
    const server = await world.server();
    const bytes = seededBytes("file in the way", FILE_BYTES);
    const ada = await world.client(server, "Ada");
    const group = ada.publicGroup();
    const map = group.createMap({ state: "old" });
    const stream = await writeFile(group, bytes);
    await ada.synced(TRANSFER_LIMIT);

    const ben = await world.client(server, "Ben");
    const seen = await ben.need(map.id);
    const download = assertReads(ben, stream.id, bytes);
    // Handles the promise's error even if the scenario fails first.
    download.catch(() => {});
    map.set("state", "new");
    await untilValue(seen, "the edit", (map) => map.get("state") === "new", SMALL_LIMIT);
    await download;
  }),
];
