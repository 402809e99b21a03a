// Access: who may connect, and whose content is stored. The reference server has no such settings.

import assert from "node:assert/strict";
import { appendFile, readFile, writeFile } from "node:fs/promises";

import { accountOf } from "../lib/client.mjs";
import { handshakeStatus } from "../lib/handshake.mjs";
import { scenario } from "../lib/scenario.mjs";
import { againstReference, downbeat } from "../lib/server.mjs";
import { pause, untilValue, within } from "../lib/waiting.mjs";

/** The server checks the files of keys and accounts every second. */
const RELOAD_LIMIT = 5_000;

/** The time to wait for refused content, which must not arrive. */
const SETTLING = 500;

const UNAUTHORIZED = 401;
const ACCEPTED = 101;

/** The server's address for a client with a key. */
const withKey = ({ url }, key) => ({ url: `${url}/?key=${key}` });

const keys = [
  scenario("a key lets a client in until it is revoked, and is never in the log", async (world) => {
    const directory = await world.directory();
    const file = `${directory}/keys.toml`;
    const addKey = (name, file) => downbeat("key", "add", name, "--keys", file);
    const adas = await addKey("ada", file);
    const server = await world.server(undefined, {
      flags: ["--access", "keys", "--keys", file, "--log", "debug"],
    });
    const ada = await world.client(withKey(server, adas), "Ada");
    const map = ada.publicGroup("writer").createMap({ state: "with a key" });
    await ada.synced();

    // Ben's key exists, in a file that the server has not read yet.
    const bens = await addKey("ben", `${directory}/other.toml`);
    const entry = await readFile(`${directory}/other.toml`, "utf8");
    let isIn = false;
    const waiting = world.client(withKey(server, bens), "Ben").finally(() => (isIn = true));
    waiting.catch(() => {});
    assert.equal(await handshakeStatus(server.url), UNAUTHORIZED);
    assert.equal(await handshakeStatus(withKey(server, `${adas}x`).url), UNAUTHORIZED);
    assert.equal(await handshakeStatus(withKey(server, bens).url), UNAUTHORIZED);
    assert.equal(await handshakeStatus(withKey(server, adas).url), ACCEPTED);
    assert(!isIn, "Ben waits at the door");
    await appendFile(file, `\n${entry}`);
    const ben = await waiting;
    const seen = await ben.need(map.id);
    assert.equal(seen.get("state"), "with a key");

    const peer = await world.rawPeer(server, `/?key=${adas}`);
    const withAda = await readFile(file, "utf8");
    await downbeat("key", "revoke", "ada", "--keys", file);
    await within(RELOAD_LIMIT, "end of the revoked key's connection", peer.closed);
    map.set("state", "revoked");
    seen.set("ben", "goes on");
    await ben.synced();
    await pause(SETTLING);
    assert.equal(await handshakeStatus(withKey(server, adas).url), UNAUTHORIZED);
    assert.equal(seen.get("state"), "with a key", "nothing comes from the revoked key");
    assert.equal(map.get("ben"), undefined, "nothing goes to the revoked key");
    assert.deepEqual([ada.connections, ben.connections], [1, 1]);

    // The edits from that time are not lost once the key is valid again.
    await writeFile(file, withAda);
    await untilValue(seen, "the edit", (map) => map.get("state") === "revoked", RELOAD_LIMIT);
    await untilValue(map, "Ben's edit", (map) => map.get("ben") === "goes on");
    for (const key of [adas, bens]) assert(!server.said.includes(key), "no key is logged");
  }),
];

const accounts = [
  scenario("listed accounts share, and a stranger's content is not stored", async (world) => {
    const file = `${await world.directory()}/accounts.txt`;
    await writeFile(file, `# the choir\n${accountOf("Ada")}\n`);
    const server = await world.server(undefined, {
      flags: ["--access", "accounts", "--accounts", file, "--account", accountOf("Ben")],
    });
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const eve = await world.client(server, "Eve");
    assert.deepEqual([ada, ben].map(({ accountID }) => accountID), ["Ada", "Ben"].map(accountOf));

    // Private: only its members can read it.
    await ben.synced();
    const group = ada.node.createGroup();
    group.addMember(await ada.need(ben.accountID), "writer");
    const map = group.createMap({ state: "new" });
    await ada.synced();
    const bens = await ben.need(map.id);
    assert.equal(bens.get("state"), "new");
    bens.set("state", "edited");
    await untilValue(map, "the edit at Ada", (map) => map.get("state") === "edited");

    // The server does not store a stranger's edits, but the stranger can still read.
    const open = ada.publicGroup("writer");
    const song = open.createMap({ verse: 1 });
    await ada.synced();
    const eves = eve.publicGroup().createMap({ hoard: "free storage" });
    const heard = await eve.need(song.id);
    heard.set("graffiti", true);
    await pause(SETTLING);
    song.set("verse", 2);
    await untilValue(heard, "the second verse at Eve", (song) => song.get("verse") === 2);
    assert.equal(eve.connections, 1, "the stranger stays connected");
    assert.equal(eves.get("hoard"), "free storage");
    assert.equal(song.get("graffiti"), undefined);

    const cleo = await world.client(server, "Cleo");
    for (const id of [eves.id, eves.group.id, eve.accountID]) {
      assert.equal(await cleo.load(id), "unavailable", `${id} is the stranger's`);
    }
    assert.deepEqual((await cleo.need(song.id)).toJSON(), { verse: 2 });
    await Promise.all([ada.synced(), ben.synced()]);
  }),
];

export const scenarios = againstReference ? [] : [...keys, ...accounts];
