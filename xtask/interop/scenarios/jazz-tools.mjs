// Sync through `jazz-tools`, the library of applications: workers and schemas.

import assert from "node:assert/strict";

import {
  Group,
  MockSessionProvider,
  co,
  createJazzContextForNewAccount,
  setDefaultValidationMode,
  z,
} from "jazz-tools";
import { startWorker } from "jazz-tools/worker";
import { WebSocketPeerWithReconnection } from "cojson-transport-ws";
import { WebSocket } from "ws";

import { crypto } from "../lib/client.mjs";
import { scenario } from "../lib/scenario.mjs";
import { LIVE_LIMIT, SMALL_LIMIT, within } from "../lib/waiting.mjs";

setDefaultValidationMode("strict");

const Song = co.map({ title: z.string(), minutes: z.number().optional() });
const Setlist = co.map({ venue: z.string(), songs: co.list(Song) });
const WITH_SONGS = { songs: { $each: true } };

/** Creates and uploads an account, its profile and inbox, like `jazz-run account create`. */
async function createAccount(server, name) {
  let context;
  const early = [];
  const link = new WebSocketPeerWithReconnection({
    peer: server.url,
    reconnectionTimeout: 100,
    WebSocketConstructor: WebSocket,
    addPeer: (peer) => (context ? context.node.syncManager.addPeer(peer) : early.push(peer)),
    removePeer: () => {},
  });
  link.enable();
  try {
    context = await createJazzContextForNewAccount({
      creationProps: { name },
      peers: early,
      crypto,
      sessionProvider: new MockSessionProvider(),
    });
    const { account, node } = context;
    await within(SMALL_LIMIT, `upload of ${name}`, account.$jazz.waitForAllCoValuesSync());
    return { accountID: account.$jazz.id, accountSecret: node.agentSecret };
  } finally {
    link.disable();
    context?.done();
  }
}

async function worker(world, server, name) {
  const credentials = await createAccount(server, name);
  const started = await within(
    SMALL_LIMIT,
    `start of worker ${name}`,
    startWorker({
      ...credentials,
      syncServer: `${server.url}/?key=interop@example.com`,
      WebSocket,
      // Two workers share this process, so each call names its worker.
      asActiveAccount: false,
    }),
  );
  world.defer(() => within(SMALL_LIMIT, `end of worker ${name}`, started.shutdownWorker()));
  return started.worker;
}

/** Resolves when the subscription shows what `matches` waits for. */
function untilSetlist(world, id, loadAs, what, matches) {
  const shown = new Promise((resolve) => {
    const unsubscribe = Setlist.subscribe(id, { loadAs, resolve: WITH_SONGS }, (setlist) => {
      if (matches(setlist)) resolve(setlist);
    });
    world.defer(unsubscribe);
  });
  return within(LIVE_LIMIT, what, shown);
}

export const scenarios = [
  scenario("a second worker reads a CoMap with a CoList and follows its changes", async (world) => {
    const server = await world.server();
    const ada = await worker(world, server, "Ada");
    const ben = await worker(world, server, "Ben");

    const group = Group.create({ owner: ada });
    group.addMember("everyone", "writer");
    const setlist = Setlist.create(
      { venue: "Minton's", songs: [{ title: "Epistrophy", minutes: 3.5 }, { title: "Evidence" }] },
      { owner: group },
    );
    await within(SMALL_LIMIT, "upload", ada.$jazz.waitForAllCoValuesSync());

    const found = await within(
      SMALL_LIMIT,
      "setlist at Ben",
      Setlist.load(setlist.$jazz.id, { loadAs: ben, resolve: WITH_SONGS }),
    );
    assert(found.$isLoaded, `Ben is told: ${found.$jazz.loadingState}`);
    assert.equal(found.venue, "Minton's");
    const songs = found.songs.map(({ title, minutes }) => ({ title, minutes }));
    assert.deepEqual(songs, [
      { title: "Epistrophy", minutes: 3.5 },
      { title: "Evidence", minutes: undefined },
    ]);

    const { id } = setlist.$jazz;
    const atAda = untilSetlist(world, id, ada, "Ben's song at Ada", ({ songs }) =>
      songs.some((song) => song.title === "Misterioso"),
    );
    found.songs.$jazz.push(Song.create({ title: "Misterioso" }, { owner: found.$jazz.owner }));
    assert.equal((await atAda).songs.length, 3);

    const atBen = untilSetlist(
      world,
      id,
      ben,
      "Ada's venue at Ben",
      ({ venue }) => venue === "Five Spot",
    );
    setlist.$jazz.set("venue", "Five Spot");
    await atBen;
  }),

  scenario("a worker reads a file and rich values of another", async (world) => {
    const server = await world.server();
    const ada = await worker(world, server, "Ada");
    const ben = await worker(world, server, "Ben");
    const group = Group.create({ owner: ada });
    group.addMember("everyone", "reader");

    const text = co.plainText().create("Blue Monk", { owner: group });
    const feed = co.feed(z.string()).create(["one", "two"], { owner: group });
    const blob = new Blob([Buffer.from("a small file")], { type: "text/plain" });
    const file = await co.fileStream().createFromBlob(blob, { owner: group });
    await within(SMALL_LIMIT, "upload", ada.$jazz.waitForAllCoValuesSync());

    const loadAs = ben;
    const ready = (what, promise) => within(SMALL_LIMIT, what, promise);
    const seenText = await ready("text", co.plainText().load(text.$jazz.id, { loadAs }));
    assert.equal(seenText.toString(), "Blue Monk");
    const seenFeed = await ready("feed", co.feed(z.string()).load(feed.$jazz.id, { loadAs }));
    const entries = [...seenFeed.perAccount[ada.$jazz.id].all].map(({ value }) => value);
    assert.deepEqual(entries.sort(), ["one", "two"]);
    const seenFile = await ready("file", co.fileStream().loadAsBlob(file.$jazz.id, { loadAs }));
    assert.equal(await seenFile.text(), "a small file");
  }),
];
