// A peer that writes its own frames: for bytes that no client sends, and for checks of single
// messages.

import { WebSocket } from "ws";

import { SMALL_LIMIT, within } from "./waiting.mjs";

export class RawPeer {
  #socket;
  #unread = [];
  #waiting = new Set();

  /** Connects to the server with any path and query. */
  static async open(server, path = "/") {
    const peer = new RawPeer(`${server.url}${path}`);
    await within(
      SMALL_LIMIT,
      `WebSocket at ${path}`,
      new Promise((resolve, reject) => {
        peer.#socket.once("open", resolve);
        peer.#socket.once("error", reject);
      }),
    );
    return peer;
  }

  constructor(url) {
    this.pings = [];
    this.#socket = new WebSocket(url);
    this.#socket.once("upgrade", ({ socket }) => {
      // The address in the server's log.
      this.address = `${socket.localAddress}:${socket.localPort}`;
    });
    this.closed = new Promise((resolve) => {
      this.#socket.once("close", (code) => resolve(code));
    });
    // If the server ends the connection, an error may come; `closed` reports the end.
    this.#socket.on("error", () => {});
    this.#socket.on("message", (data, isBinary) => this.#receive(data, isBinary));
  }

  get isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Sends one message as one text frame. */
  send(message) {
    this.sendFrame(JSON.stringify(message));
  }

  /** Sends a frame unchanged: a string as text, a Buffer as binary. */
  sendFrame(frame) {
    this.#socket.send(frame);
  }

  /** The first received or future message for which `matches` holds. Returns each message once. */
  async next(what, matches, limit = SMALL_LIMIT) {
    const index = this.#unread.findIndex(matches);
    if (index >= 0) return this.#unread.splice(index, 1)[0];
    let waiter;
    const found = new Promise((resolve) => {
      waiter = { matches, resolve };
      this.#waiting.add(waiter);
    });
    const gone = this.closed.then((code) => {
      throw new Error(`connection closed with ${code} while waiting for ${what}`);
    });
    try {
      return await within(limit, what, Promise.race([found, gone]));
    } catch (error) {
      error.message += `; unread: ${JSON.stringify(this.#unread).slice(0, 500)}`;
      throw error;
    } finally {
      this.#waiting.delete(waiter);
    }
  }

  /** Loads a CoValue without having any of it. Returns the first answer (content or known). */
  async load(id, limit = SMALL_LIMIT) {
    this.send({ action: "load", id, header: false, sessions: {} });
    return this.next(
      `answer to load ${id}`,
      (message) => message.id === id && ["content", "known"].includes(message.action),
      limit,
    );
  }

  /** Sends content and waits until all of it is acknowledged. */
  async upload(content) {
    this.send(content);
    const counts = Object.entries(content.new).map(([session, { after, newTransactions }]) => [
      session,
      after + newTransactions.length,
    ]);
    await this.next(
      `acknowledgement of all of ${content.id}`,
      ({ action, id, header, sessions }) =>
        action === "known" &&
        id === content.id &&
        header &&
        counts.every(([session, count]) => sessions[session] === count),
    );
  }

  /** The next ping, with the time of its arrival. */
  async nextPing(limit) {
    const seen = this.pings.length;
    const arrived = new Promise((resolve) => {
      this.onPing = () => resolve(this.pings[seen]);
    });
    return within(limit, "ping", arrived);
  }

  close() {
    this.#socket.terminate();
  }

  #receive(data, isBinary) {
    if (isBinary) throw new Error("the server sent a binary frame");
    const text = data.toString();
    if (text === "") return;
    for (const line of text.split("\n")) {
      const message = JSON.parse(line);
      if (message.type === "ping") {
        this.pings.push({ arrival: Date.now(), message });
        this.onPing?.();
      } else {
        this.#deliver(message);
      }
    }
  }

  #deliver(message) {
    for (const waiter of this.#waiting) {
      if (waiter.matches(message)) {
        this.#waiting.delete(waiter);
        waiter.resolve(message);
        return;
      }
    }
    this.#unread.push(message);
  }
}
