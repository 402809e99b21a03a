// An edge and a core that sync over TCP, with and without TLS, and real clients at both ends. The
// reference server does not have this transport.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { certificate, TLS_FLAGS } from "../lib/certificates.mjs";
import { TRANSFER_LIMIT, assertReads, writeFile } from "../lib/files.mjs";
import { scenario } from "../lib/scenario.mjs";
import { AWKWARD_VALUES, seededBytes } from "../lib/seeded.mjs";
import { againstReference } from "../lib/server.mjs";
import { SMALL_LIMIT, pause, untilValue, within } from "../lib/waiting.mjs";

const FILE_BYTES = 3 * 1024 * 1024;

/** The time limit for an edit through two servers. */
const CHAIN_LIMIT = 5_000;

const PLAIN = { scheme: "tcp", coreFlags: [], edgeFlags: [] };
const ENCRYPTED = {
  scheme: "tcps",
  coreFlags: TLS_FLAGS,
  edgeFlags: ["--upstream-ca", certificate("authority.pem")],
};

async function startCore(world, { coreFlags }) {
  const isEncrypted = coreFlags.length > 0;
  return world.server(undefined, {
    flags: ["--tcp-port", "0", ...coreFlags],
    authority: isEncrypted ? await readFile(certificate("authority.pem"), "utf8") : undefined,
  });
}

const startEdge = (world, { edgeFlags }, upstream) =>
  world.server(undefined, { upstreams: [upstream], flags: edgeFlags });

/** A scenario for each kind of link. */
const overTcp = (name, play) => [
  scenario(`${name} (TCP)`, (world) => play(world, PLAIN)),
  scenario(`${name} (TCP with TLS)`, (world) => play(world, ENCRYPTED)),
];

/** Loads a CoValue that is still on its way to the client's server. */
async function arrival(client, { id }) {
  const loading = async () => {
    for (;;) {
      const coValue = await client.load(id);
      if (coValue !== "unavailable") return coValue;
      await pause(50);
    }
  };
  return within(SMALL_LIMIT, `${id} as ${client.name}`, loading());
}

const tcp = [
  ...overTcp("edits and files pass between an edge and a core", async (world, link) => {
    const core = await startCore(world, link);
    const upstream = await core.tcpPort();
    assert(upstream.url.startsWith(`${link.scheme}://`), upstream.url);
    const edge = await startEdge(world, link, upstream);
    const ada = await world.client(edge, "Ada");
    const group = ada.publicGroup("writer");
    const map = group.createMap({ ...AWKWARD_VALUES });
    const bytes = seededBytes("file over TCP", FILE_BYTES);
    const file = await writeFile(group, bytes);
    await ada.synced(TRANSFER_LIMIT);

    const ben = await world.client(core, "Ben");
    const seen = await arrival(ben, map);
    await untilValue(
      seen,
      "all values",
      (map) => Object.keys(AWKWARD_VALUES).every((key) => map.get(key) !== undefined),
      SMALL_LIMIT,
    );
    assert.deepEqual(seen.toJSON(), AWKWARD_VALUES);
    await arrival(ben, file);
    await assertReads(ben, file.id, bytes);
    for (let turn = 0; turn < 6; turn++) {
      const [from, to] = turn % 2 === 0 ? [map, seen] : [seen, map];
      from.set("turn", turn);
      await untilValue(to, `turn ${turn}`, (map) => map.get("turn") === turn, CHAIN_LIMIT);
    }
  }),

  ...overTcp("an edge syncs after its link was cut", async (world, link) => {
    const core = await startCore(world, link);
    const line = await world.proxy(await core.tcpPort());
    const url = line.url.replace("ws:", `${link.scheme}:`);
    const edge = await startEdge(world, link, { url });
    const ada = await world.client(edge, "Ada");
    const ben = await world.client(core, "Ben");
    const map = ada.publicGroup("writer").createMap({ started: true });
    await ada.synced();
    const seen = await arrival(ben, map);

    line.shut();
    map.set("ada", 1);
    seen.set("ben", 1);
    await ada.synced();
    await ben.synced();
    await pause(100);
    assert.equal(map.get("ben"), undefined);

    line.open();
    for (const side of [map, seen]) {
      const hasBoth = (map) => map.get("ada") === 1 && map.get("ben") === 1;
      await untilValue(side, "both edits", hasBoth, SMALL_LIMIT);
    }
  }),
];

export const scenarios = againstReference ? [] : tcp;
