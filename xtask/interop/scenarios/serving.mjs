// The server's other services: health, pings, paths, a clean stop.

import assert from "node:assert/strict";

import { OfflineAuthor } from "../lib/offline-author.mjs";
import { scenario } from "../lib/scenario.mjs";
import { SMALL_LIMIT, within } from "../lib/waiting.mjs";

/** Pings are sent every 1.5 s; the rest is for a busy machine. */
const PING_LIMIT = 2_000;

/** The allowed deviation from 1.5 s between two pings. */
const PING_JITTER = 600;

/** Server and client share a clock here. */
const CLOCK_TOLERANCE = 1_000;

/** The closing code of a server that shuts down. */
const GOING_AWAY = 1001;

const stopsOn = (signal) =>
  scenario(`${signal} stops the server cleanly with clients connected`, async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const peer = await world.rawPeer(server);
    ada.publicGroup().createMap({ last: "edit" });
    await ada.synced();
    await server.stop(signal);
    assert.equal(await within(SMALL_LIMIT, "end of the connection", peer.closed), GOING_AWAY);
  });

export const scenarios = [
  scenario("GET /health answers 200 ok", async (world) => {
    const server = await world.server("memory");
    const response = await fetch(`${server.httpUrl}/health`, {
      signal: AbortSignal.timeout(SMALL_LIMIT),
    });
    assert.equal(response.status, 200);
    assert.equal((await response.text()).trim(), "ok");
  }),

  scenario("pings with the time arrive every one and a half seconds", async (world) => {
    const server = await world.server("memory");
    const peer = await world.rawPeer(server);
    const first = await peer.nextPing(PING_LIMIT);
    const second = await peer.nextPing(PING_LIMIT + PING_JITTER);
    const third = await peer.nextPing(PING_LIMIT + PING_JITTER);
    for (const { message, arrival } of [first, second, third]) {
      assert.deepEqual(Object.keys(message).sort(), ["dc", "time", "type"]);
      assert.equal(message.type, "ping");
      assert.equal(typeof message.dc, "string");
      assert(Number.isInteger(message.time), "the time is in whole milliseconds");
      assert(Math.abs(message.time - arrival) < CLOCK_TOLERANCE, `${message.time} at ${arrival}`);
    }
    const gap = third.arrival - second.arrival;
    assert(Math.abs(gap - 1_500) < PING_JITTER, `${gap} ms between two pings`);
  }),

  ...["/", "/?key=you@example.com", "/sync", "/any/path?key=abc&more=1"].map((path) =>
    scenario(`a WebSocket is accepted at ${path}`, async (world) => {
      const server = await world.server("memory");
      const peer = await world.rawPeer(server, path);
      const { map } = new OfflineAuthor("Nina");
      assert.equal((await peer.load(map.id)).header, false);
    }),
  ),

  stopsOn("SIGINT"),
  stopsOn("SIGTERM"),
];
