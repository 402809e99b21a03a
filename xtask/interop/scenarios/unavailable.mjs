// A CoValue that nobody has is reported as such, soon: the client itself would wait a minute.

import assert from "node:assert/strict";

import { OfflineAuthor } from "../lib/offline-author.mjs";
import { scenario } from "../lib/scenario.mjs";
import { LIVE_LIMIT } from "../lib/waiting.mjs";

export const scenarios = [
  scenario("loading a CoValue that nobody has ends as unavailable at once", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const { map } = new OfflineAuthor("Nobody");
    assert.equal(await ada.load(map.id, LIVE_LIMIT), "unavailable");
  }),

  scenario("the answer on the wire is KNOWN without a header", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const { map } = new OfflineAuthor("Nobody");
    const answer = await peer.load(map.id, LIVE_LIMIT);
    assert.equal(answer.action, "known");
    assert.equal(answer.header, false);
    assert.deepEqual(answer.sessions, {});
  }),

  scenario(
    "a hundred loads of missing CoValues do not hold back one that is there",
    async (world) => {
      const server = await world.server();
      const ada = await world.client(server, "Ada");
      const map = ada.publicGroup().createMap({ here: true });
      await ada.synced();

      const ben = await world.client(server, "Ben");
      const { group } = new OfflineAuthor("Nobody");
      const missing = Array.from({ length: 100 }, () => group.createMap({}).id);
      const loads = missing.map((id) => ben.load(id));
      assert.equal((await ben.need(map.id, LIVE_LIMIT)).get("here"), true);
      const answers = await Promise.all(loads);
      assert(answers.every((answer) => answer === "unavailable"));
    },
  ),
];
