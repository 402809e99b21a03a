// A TCP proxy between clients and a server. It can be cut, closed for a while, slowed down and
// stopped, and counts the bytes. It does not read the messages.

import { once } from "node:events";
import { connect, createServer } from "node:net";

import { pause, within } from "./waiting.mjs";

/** The time limit for opening the proxy's port. */
const START_LIMIT = 5_000;

/** The interval at which a slowed proxy passes bytes on, in milliseconds. */
const SLICE = 20;

export class Proxy {
  #listener;
  #target;
  #lines = new Set();
  #isOpen = true;
  #bytesPerSecond = Infinity;
  #flowing = Promise.resolve();
  #flow = () => {};
  #counters = new Set();

  static async start(server) {
    const proxy = new Proxy(server);
    proxy.#listener.listen(0, "127.0.0.1");
    await within(START_LIMIT, "port of the proxy", once(proxy.#listener, "listening"));
    proxy.url = `ws://127.0.0.1:${proxy.#listener.address().port}`;
    return proxy;
  }

  constructor(server) {
    this.connectTo(server);
    this.#listener = createServer((socket) => this.#carry(socket));
  }

  /** From now on new connections lead to this server. */
  connectTo({ url }) {
    this.#target = Number(new URL(url).port);
  }

  /** Cuts all connections, as a lost network does. New ones are taken at once. */
  cut() {
    for (const line of [...this.#lines]) line.destroy();
  }

  /** Cuts all connections and takes no new ones until `open`. */
  shut() {
    this.#isOpen = false;
    this.cut();
  }

  open() {
    this.#isOpen = true;
  }

  /** Limits each direction of each connection to this many bytes a second. */
  slowDown(bytesPerSecond) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Stops reading from both sides until `release`. Neither side notices the stop itself. */
  hold() {
    this.#flowing = new Promise((resolve) => {
      this.#flow = resolve;
    });
  }

  release() {
    this.#flow();
  }

  /**
   * Cuts all connections once this many further bytes have passed in one direction: `up` to the
   * server or `down` to the client. Resolves after the cut.
   */
  cutAfter(direction, bytes, limit) {
    const reached = new Promise((resolve) => {
      const counter = (passed, length) => {
        if (passed !== direction) return;
        bytes -= length;
        if (bytes > 0) return;
        this.#counters.delete(counter);
        this.cut();
        resolve();
      };
      this.#counters.add(counter);
    });
    return within(limit, `traffic ${direction} to cut`, reached);
  }

  /** Starts counting the bytes in one direction, and returns a function that returns the count. */
  count(direction) {
    let total = 0;
    this.#counters.add((passed, length) => {
      if (passed === direction) total += length;
    });
    return () => total;
  }

  async close() {
    this.release();
    this.shut();
    await new Promise((resolve) => this.#listener.close(resolve));
  }

  #carry(client) {
    if (!this.#isOpen) {
      client.on("error", () => {});
      client.destroy();
      return;
    }
    const server = connect(this.#target, "127.0.0.1");
    const line = {
      destroy: () => {
        this.#lines.delete(line);
        client.destroy();
        server.destroy();
      },
    };
    this.#lines.add(line);
    // The end or error of one side ends both sides. Only the peers see errors.
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on("error", line.destroy);
      socket.on("close", line.destroy);
    }
    void this.#pump("up", client, server);
    void this.#pump("down", server, client);
  }

  async #pump(direction, from, to) {
    try {
      for await (const chunk of from) {
        for (const slice of this.#slices(chunk)) {
          await this.#flowing;
          if (to.destroyed) return;
          if (!to.write(slice)) await once(to, "drain");
          for (const counter of this.#counters) counter(direction, slice.length);
          if (this.#bytesPerSecond !== Infinity) {
            await pause((slice.length / this.#bytesPerSecond) * 1_000);
          }
        }
      }
      to.end();
    } catch {
      // The sockets' own handlers end the line.
    }
  }

  *#slices(chunk) {
    const length =
      this.#bytesPerSecond === Infinity
        ? chunk.length
        : Math.max(1, Math.floor((this.#bytesPerSecond * SLICE) / 1_000));
    for (let start = 0; start < chunk.length; start += length) {
      yield chunk.subarray(start, start + length);
    }
  }
}
