// A CoValue that many write: each client has a session of its own.

import assert from "node:assert/strict";

import { scenario } from "../lib/scenario.mjs";
import { againstReference } from "../lib/server.mjs";
import { LIVE_LIMIT, untilValue } from "../lib/waiting.mjs";

/** More than the server states in each acknowledgement. */
const GUESTS = 20;

/** The numbers of sessions in the KNOWNs of a CoValue in a frame. */
const stated = (frame, id) =>
  frame
    .split("\n")
    .filter((line) => line)
    .map((line) => JSON.parse(line))
    .filter((message) => message.action === "known" && message.id === id)
    .map(({ sessions }) => Object.keys(sessions).length);

export const scenarios = [
  scenario("writers among many sessions are acknowledged session by session", async (world) => {
    const server = await world.server();
    let frames = [];
    const ada = await world.client(server, "Ada", { overhear: (frame) => frames.push(frame) });
    const map = ada.publicGroup("writer").createMap({});
    await ada.synced();

    const guests = [];
    for (let number = 0; number < GUESTS; number++) {
      const guest = await world.client(server, `Guest ${number}`);
      const seen = await guest.need(map.id);
      seen.set(`guest ${number}`, "here");
      await guest.synced();
      guests.push({ guest, seen });
    }
    await untilValue(map, "all guests", (map) => map.get(`guest ${GUESTS - 1}`) === "here");

    // The first acknowledgement may state all sessions.
    map.set("turn", 0);
    await ada.synced(LIVE_LIMIT);
    for (let turn = 1; turn <= GUESTS; turn++) {
      frames = [];
      map.set("turn", turn);
      await ada.synced(LIVE_LIMIT);
      const sessions = frames.flatMap((frame) => stated(frame, map.id));
      assert(sessions.length > 0, "the write is acknowledged");
      if (!againstReference) assert.deepEqual(new Set(sessions), new Set([1]));
    }
    const last = (map) => map.get("turn") === GUESTS;
    await Promise.all(guests.map(({ seen }) => untilValue(seen, "the last turn", last)));

    // Edits from an interrupted connection are acknowledged like others.
    const [{ guest, seen }] = guests;
    guest.disconnect();
    seen.set("offline", "edit");
    map.set("meanwhile", "edit");
    await guest.reconnect();
    await guest.synced();
    await untilValue(map, "the offline edit", (map) => map.get("offline") === "edit");
    await untilValue(seen, "Ada's edit", (map) => map.get("meanwhile") === "edit");
    seen.set("online", "edit");
    await guest.synced(LIVE_LIMIT);
    await ada.synced(LIVE_LIMIT);
  }),
];
