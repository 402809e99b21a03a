// Files as applications write them: binary streams in chunks.

import assert from "node:assert/strict";
import { setImmediate as nextTurn } from "node:timers/promises";

import { untilValue } from "./waiting.mjs";

/** The size of the pieces in which applications write files. */
export const CHUNK_BYTES = 100 * 1024;

/** The time limit for the transfer of a file of some megabytes. */
export const TRANSFER_LIMIT = 40_000;

const FILE_NAME = "score.bin";

/** The start message of a file of this many bytes. */
export function startFile(stream, length) {
  stream.startBinaryStream({
    mimeType: "application/octet-stream",
    fileName: FILE_NAME,
    totalSizeBytes: length,
  });
}

/** Writes a whole file into a new stream of the group, at the pace of an application. */
export async function writeFile(group, bytes) {
  const stream = group.createBinaryStream();
  startFile(stream, bytes.length);
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
    stream.pushBinaryStreamChunk(bytes.subarray(start, start + CHUNK_BYTES));
    await nextTurn();
  }
  stream.endBinaryStream();
  return stream;
}

/** Loads a file, waits for its end and compares every byte. */
export async function assertReads(reader, id, bytes, limit = TRANSFER_LIMIT) {
  const stream = await reader.need(id, limit);
  const complete = await untilValue(
    stream,
    `end of the file at ${reader.name}`,
    (stream) => stream.isBinaryStreamEnded(),
    limit,
  );
  const file = complete.getBinaryChunks();
  assert.equal(file.finished, true);
  assert.equal(file.fileName, FILE_NAME);
  assert.equal(file.totalSizeBytes, bytes.length);
  assert(Buffer.concat(file.chunks).equals(bytes), `the bytes that ${reader.name} gets`);
}
