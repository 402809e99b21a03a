// A client does not send refused content (over a quota, or from an account that is no longer listed)
// again and again, neither at once nor after it reconnects. The operator sees one log line.

import assert from "node:assert/strict";

import { writeFile as writeText } from "node:fs/promises";

import { accountOf } from "../lib/client.mjs";
import { writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { againstReference, downbeat } from "../lib/server.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { pause, until } from "../lib/waiting.mjs";

const KIB = 1024;

/** Encryption and two rounds of base64 make less than 2 MiB of this. */
const FILE_BYTES = 1024 * KIB;
const UPLOAD_BYTES = 2048 * KIB;

/** The bytes of pings, LOADs and acknowledgements. */
const SMALL_TALK = 256 * KIB;

/** The server checks the file of accounts every second. */
const RELOAD_LIMIT = 5_000;

/** In the field trial, 1 GB was sent within 10 s. */
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

    // Edits of the small map still reach its reader.
    const ben = await world.client({ url: `${server.url}/?key=${key}` }, "Ben");
    assert.equal((await ben.need(map.id)).get("small"), true);
    const about = server.said.split("\n").filter((text) => text.includes(stream.id));
    assert.equal(about.length, 1, about.join("\n"));
  }),
];

const accounts = [
  scenario("a file of an account that was struck off the list is sent once", async (world) => {
    const file = `${await world.directory()}/accounts.txt`;
    await writeText(file, `${accountOf("Ada")}\n`);
    const server = await world.server(undefined, {
      flags: ["--access", "accounts", "--accounts", file, "--account", accountOf("Ben")],
    });
    const line = await world.proxy(server);
    const ada = await world.client({ url: line.url }, "Ada");
    const group = ada.publicGroup("writer");
    const map = group.createMap({ listed: true });
    await ada.synced();
    await writeText(file, "# the list is empty\n");
    await until(RELOAD_LIMIT, "the shorter list", () => server.said.includes("accounts=1"));

    // A new CoValue is refused with its header, a stored one only in its author's session.
    const sent = line.count("up");
    const stream = await writeFile(group, seededBytes("struck off", FILE_BYTES));
    map.set("edited", "by a stranger");
    await pause(WATCHED);
    const before = sent();
    assert(before > FILE_BYTES, `the file was sent, ${before} bytes`);
    assert(before < UPLOAD_BYTES + SMALL_TALK, `it was sent once, ${before} bytes`);

    line.cut();
    await ada.reconnected();
    await pause(WATCHED);
    const again = sent() - before;
    assert(again < SMALL_TALK, `it was not sent again, ${again} bytes`);

    const ben = await world.client(server, "Ben");
    assert.deepEqual((await ben.need(map.id)).toJSON(), { listed: true });
    assert.equal(await ben.load(stream.id), "unavailable");
  }),
];

export const scenarios = againstReference ? [] : [...quotas, ...accounts];
