// Clients over wss://, with a certificate from our own authority. The reference server has no TLS: it
// needs a proxy for that.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { certificate, TLS_FLAGS } from "../lib/certificates.mjs";
import { assertReads, writeFile } from "../lib/files.mjs";
import { handshakeStatus } from "../lib/handshake.mjs";
import { scenario } from "../lib/scenario.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { againstReference } from "../lib/server.mjs";
import { untilValue } from "../lib/waiting.mjs";

const FILE_BYTES = 300 * 1024;

async function tlsServer(world) {
  return world.server("memory", {
    flags: TLS_FLAGS,
    authority: await readFile(certificate("authority.pem"), "utf8"),
  });
}

const tls = [
  scenario("clients sync over wss:// with an authority that they trust", async (world) => {
    const server = await tlsServer(world);
    assert.match(server.url, /^wss:/);
    const ada = await world.client(server, "Ada");
    const ben = await world.client(server, "Ben");
    const group = ada.publicGroup("writer");
    const map = group.createMap({ state: "new" });
    const bytes = seededBytes("file over TLS", FILE_BYTES);
    const file = await writeFile(group, bytes);
    await ada.synced();
    const seen = await ben.need(map.id);
    seen.set("state", "edited");
    await untilValue(map, "the edit at Ada", (map) => map.get("state") === "edited");
    await assertReads(ben, file.id, bytes);
  }),

  scenario("clients without the authority, or without TLS, get no connection", async (world) => {
    const server = await tlsServer(world);
    await assert.rejects(handshakeStatus(server.url), { code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" });
    await assert.rejects(handshakeStatus(server.url.replace("wss:", "ws:")));
    // Other clients are not affected.
    const ada = await world.client(server, "Ada");
    ada.publicGroup().createMap({ state: "there" });
    await ada.synced();
  }),
];

export const scenarios = againstReference ? [] : tls;
