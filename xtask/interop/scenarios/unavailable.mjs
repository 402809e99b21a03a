// The server soon reports a CoValue that does not exist. Without that the client would wait a minute.

import assert from "node:assert/strict";

import { OfflineAuthor } from "../lib/offline-author.mjs";
import { scenario } from "../lib/scenario.mjs";
import { againstReference } from "../lib/server.mjs";
import { LIVE_LIMIT, SMALL_LIMIT } from "../lib/waiting.mjs";

/**
 * Texts that cannot name a CoValue: mistyped, cut off, too long, and not ids at all. The reference
 * answers only those that begin like an id.
 */
const IMPOSSIBLE = [
  "co_zNot0OIlBase58AtAll00000",
  "co_z",
  "co_z3KtTqHpdiLVqUedLN8UzsfaYrx3KtTqHpdiLVqUedLN8UzsfaYrx",
  "co_3KtTqHpdiLVqUedLN8UzsfaYrx",
  "https://example.com/ä?\"id\"=\\",
  "",
].filter((id) => !againstReference || id.startsWith("co_z"));

export const scenarios = [
  scenario("loading a mistyped or cut-off id ends as unavailable at once", async (world) => {
    const server = await world.server();
    const edge = await world.server(undefined, { upstreams: [server] });
    for (const [name, place] of [["Ada", server], ["Ben", edge]]) {
      const client = await world.client(place, name);
      for (const id of IMPOSSIBLE.filter((id) => id.startsWith("co_z"))) {
        assert.equal(await client.load(id, LIVE_LIMIT), "unavailable", id);
      }
      client.publicGroup().createMap({ name });
      await client.synced();
    }
  }),

  scenario("a message about an impossible id is answered, as is all else in its frame", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const author = new OfflineAuthor("Nils");
    for (const content of author.dependencies) await peer.upload(content);
    const load = (id) => JSON.stringify({ action: "load", id, header: false, sessions: {} });
    const account = author.account.id;
    peer.sendFrame([...IMPOSSIBLE, account].map(load).join("\n"));
    for (const id of IMPOSSIBLE) {
      const answer = await peer.next(`answer to ${id}`, (message) => message.id === id, LIVE_LIMIT);
      assert.deepEqual(answer, { action: "known", id, header: false, sessions: {} });
    }
    await peer.next("content", ({ action, id }) => action === "content" && id === account);

    peer.send({
      action: "reconcile",
      id: "batch",
      values: IMPOSSIBLE.map((id) => [id, `shortHash_z${"1".repeat(19)}`]),
    });
    // The reference asks the client for each of them.
    if (!againstReference) {
      await peer.next("acknowledgement", ({ action }) => action === "reconcile-ack", SMALL_LIMIT);
    }
    // An invalid session does not invalidate the state that lists it.
    peer.send({ action: "load", id: account, header: false, sessions: { invalid: 3 } });
    await peer.next("content", ({ action, id }) => action === "content" && id === account);
  }),

  scenario("loading a CoValue that no peer has ends as unavailable at once", async (world) => {
    const server = await world.server();
    const ada = await world.client(server, "Ada");
    const { map } = new OfflineAuthor("Nina");
    assert.equal(await ada.load(map.id, LIVE_LIMIT), "unavailable");
  }),

  scenario("the answer on the wire is KNOWN without a header", async (world) => {
    const server = await world.server();
    const peer = await world.rawPeer(server);
    const { map } = new OfflineAuthor("Nina");
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
      const { group } = new OfflineAuthor("Nina");
      const missing = Array.from({ length: 100 }, () => group.createMap({}).id);
      const loads = missing.map((id) => ben.load(id));
      assert.equal((await ben.need(map.id, LIVE_LIMIT)).get("here"), true);
      const answers = await Promise.all(loads);
      assert(answers.every((answer) => answer === "unavailable"));
    },
  ),
];
