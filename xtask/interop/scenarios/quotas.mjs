// Content over a quota is not sent again and again, neither at once nor when the client connects
// again, and the operator sees one line for it.

import assert from "node:assert/strict";

import { writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { againstReference, downbeat } from "../lib/server.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { pause } from "../lib/waiting.mjs";

const KIB = 1024;

/** Encrypted and in base64 twice, this is less than 2 MiB on the line. */
const FILE_BYTES = 1024 * KIB;
const UPLOAD_BYTES = 2048 * KIB;

/** Pings, LOADs and acknowledgements meanwhile. */
const SMALL_TALK = 256 * KIB;

/** In the field trial, 1 GB went over the line in 10 s. */
const WATCHED = 4_000;

const quotas = [
  scenario("a file over the quota is sent once, and not when the client comes back", async (world) => {
    const file = `${await world.directory()}/keys.toml`;
    const key = await downbeat("key", "add", "app", "--max-stored", "200KiB", "--keys", file);
    const server = await world.server(undefined, { flags: ["--access", "keys", "--keys", file] });
    const line = await world.proxy(server);
    const ada = await world.client({ url: `${line.url}/?key=${key}` }, "Ada");
    const group = ada.publicGroup("writer");
    const map = group.createMap({ small: true });
    await ada.synced();

    const sent = line.count("up");
    const stream = await writeFile(group, seededBytes("over the quota", FILE_BYTES));
    await pause(WATCHED);
    const before = sent();
    assert(before > FILE_BYTES, `the file was sent, ${before} bytes`);
    assert(before < UPLOAD_BYTES + SMALL_TALK, `it was sent once, ${before} bytes`);

    line.cut();
    await ada.reconnected();
    await pause(WATCHED);
    const again = sent() - before;
    assert(again < SMALL_TALK, `it was not sent again, ${again} bytes`);

    // The small map goes on, and its reader gets it.
    const ben = await world.client({ url: `${server.url}/?key=${key}` }, "Ben");
    assert.equal((await ben.need(map.id)).get("small"), true);
    const about = server.said.split("\n").filter((text) => text.includes(stream.id));
    assert.equal(about.length, 1, about.join("\n"));
  }),
];

export const scenarios = againstReference ? [] : quotas;
