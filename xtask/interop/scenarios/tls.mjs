// Clients over wss://, with a certificate of an authority of our own. The reference server leaves
// TLS to whatever stands in front of it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { assertReads, writeFile } from "../lib/files.mjs";
import { handshakeStatus } from "../lib/handshake.mjs";
import { scenario } from "../lib/scenario.mjs";
import { seededBytes } from "../lib/seeded.mjs";
import { againstReference } from "../lib/server.mjs";
import { untilValue } from "../lib/waiting.mjs";

const FILE_BYTES = 300 * 1024;

const certificate = (name) =>
  fileURLToPath(new URL(`../lib/certificates/${name}`, import.meta.url));

async function tlsServer(world) {
  return world.server("memory", {
    flags: ["--tls-cert", certificate("server.pem"), "--tls-key", certificate("server-key.pem")],
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

  scenario("whoever does not know the authority, or TLS, gets no connection", async (world) => {
    const server = await tlsServer(world);
    await assert.rejects(handshakeStatus(server.url), { code: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" });
    await assert.rejects(handshakeStatus(server.url.replace("wss:", "ws:")));
    // Everybody else is unaffected.
    const ada = await world.client(server, "Ada");
    ada.publicGroup().createMap({ state: "there" });
    await ada.synced();
  }),
];

export const scenarios = againstReference ? [] : tls;
