// The server under test as a child process: start, watch, stop.
//
// Downbeat and the reference server take the same arguments and behave alike (the address on standard
// output, logs on standard error, a clean exit on SIGTERM and SIGINT), so that scenarios are the same
// for both.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { pause, within } from "./waiting.mjs";

/** The time limit for a start. */
const START_LIMIT = 15_000;

/** The time limit for a clean stop: flush the storage, close the sockets, exit. */
const STOP_LIMIT = 10_000;

/** The longest time between an event and its log line. */
const LOG_LIMIT = 3_000;

/** The time to wait for a second line where only one is expected. */
const LOG_SETTLING = 250;

const REFERENCE = fileURLToPath(new URL("./reference-server.mjs", import.meta.url));

/** Whether the scenarios run against the reference server (DOWNBEAT_INTEROP_SERVER=reference). */
export const againstReference = process.env.DOWNBEAT_INTEROP_SERVER === "reference";

/** A command that does its work and ends, such as `downbeat key add`. */
const COMMAND_LIMIT = 10_000;

/** Runs a command of the binary under test, and returns its output. */
export async function downbeat(...args) {
  const { stdout } = await promisify(execFile)(binary(), args, {
    timeout: COMMAND_LIMIT,
    env: plainEnvironment(),
  });
  return stdout.trim();
}

const running = new Set();

// No server outlives a run that is interrupted or fails.
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export class Server {
  #child;
  #exit;
  #isToEnd = false;
  #log = [];
  #printed = [];
  #logListeners = new Set();

  /**
   * `storage` is the argument of the command line: `memory` or `data:DIR`. `upstreams` are the
   * upstream servers, or proxies to them. `reference` starts the reference server. `flags` are
   * further flags, only for Downbeat. `authority` is the certificate (PEM) that clients of a server
   * with TLS trust.
   */
  static async start(storage, options = {}) {
    const server = new Server(storage, options);
    try {
      server.url = await within(START_LIMIT, "address printed by the server", server.#address());
    } catch (error) {
      await server.kill();
      throw error;
    }
    server.httpUrl = server.url.replace(/^ws/, "http");
    server.authority = options.authority;
    return server;
  }

  constructor(storage, { upstreams = [], reference = againstReference, flags = [] }) {
    const [program, ...fixed] = command(reference);
    const args = [...fixed, "serve", "--host", "127.0.0.1", "--port", "0", "--storage", storage];
    args.push(...flags);
    for (const { url } of upstreams) args.push("--upstream", url);
    this.#child = spawn(program, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...plainEnvironment(), NO_COLOR: "1", RUST_BACKTRACE: "1" },
    });
    running.add(this.#child);
    this.#exit = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve({ error }));
      this.#child.once("close", (code, signal) => resolve({ code, signal }));
    }).finally(() => running.delete(this.#child));
    createInterface({ input: this.#child.stderr }).on("line", (line) => {
      this.#log.push(line);
      for (const listener of this.#logListeners) listener();
    });
  }

  /** Stops the server as an operator would, and asserts a clean exit. */
  async stop(signal = "SIGTERM") {
    this.#end(signal);
    const { code, signal: killedBy } = await within(
      STOP_LIMIT,
      `exit of the server after ${signal}`,
      this.#exit,
    );
    assert.equal(killedBy, null, `the server must handle ${signal}, not die of it`);
    assert.equal(code, 0, `exit code after ${signal}`);
  }

  /** Kills the server, so that it cannot write anything more, as in a power cut. */
  async kill() {
    this.#end("SIGKILL");
    await within(STOP_LIMIT, "end of the killed server", this.#exit);
  }

  /** The number of log lines so far; later lines are "after the mark". */
  logMark() {
    return this.#log.length;
  }

  /**
   * Waits for a warning or error with the address of the peer, and asserts that exactly one comes
   * after `mark`. Lines of other levels do not count.
   *
   * The reference does not log the peer, so this checks nothing there.
   */
  async expectComplaint(mark, { address }) {
    if (againstReference) return;
    const names = [`peer=${address}`, `peer="${address}"`];
    const isComplaint = (line) =>
      /\b(WARN|ERROR)\b/.test(line) && names.some((name) => line.includes(name));
    const complaints = () => this.#log.slice(mark).filter(isComplaint);
    let listener;
    const first = new Promise((resolve) => {
      listener = () => complaints().length > 0 && resolve();
      this.#logListeners.add(listener);
      listener();
    });
    try {
      await within(LOG_LIMIT, `warning about the peer ${address} in the server's log`, first);
    } finally {
      this.#logListeners.delete(listener);
    }
    await pause(LOG_SETTLING);
    assert.equal(complaints().length, 1, `one line is enough:\n${complaints().join("\n")}`);
  }

  /** The port for other servers (`--tcp-port`), as an entry for their `upstreams`. */
  async tcpPort() {
    const printed = async () => {
      for (;;) {
        const found = this.said.match(/tcps?:\/\/127\.0\.0\.1:[1-9]\d*/);
        if (found) return { url: found[0] };
        await pause(10);
      }
    };
    return within(START_LIMIT, "TCP address printed by the server", printed());
  }

  /** Ends the process at the end of a scenario, in any state. */
  async close() {
    if (running.has(this.#child)) {
      await this.stop().catch(async (error) => {
        await this.kill();
        throw error;
      });
    }
    assert(this.#isToEnd, "the server must not end by itself");
    const panics = this.#log.filter((line) => line.includes("panicked at"));
    assert.deepEqual(panics, [], "the server must not panic");
  }

  /** The whole standard output and log of the server. */
  get said() {
    return [...this.#printed, ...this.#log].join("\n");
  }

  /** The end of the log, for the report of a failure. */
  logTail(lines = 20) {
    return this.#log.slice(-lines).join("\n");
  }

  #end(signal) {
    this.#isToEnd ||= running.has(this.#child);
    this.#child.kill(signal);
  }

  async #address() {
    const output = createInterface({ input: this.#child.stdout });
    const printed = new Promise((resolve) => {
      // The listener stays, so that the pipe never fills up.
      output.on("line", (line) => {
        this.#printed.push(line);
        const found = line.match(/wss?:\/\/127\.0\.0\.1:[1-9]\d*/);
        if (found) resolve(found[0]);
      });
    });
    const ended = this.#exit.then(({ error, code, signal }) => {
      const how = error ?? `code ${code}, signal ${signal}`;
      throw new Error(`the server ended before it printed its address (${how}):\n${this.said}`);
    });
    return Promise.race([printed, ended]);
  }
}

function command(reference) {
  return reference ? [process.execPath, REFERENCE] : [binary()];
}

function binary() {
  const path = process.env.DOWNBEAT_BIN;
  assert(path, "DOWNBEAT_BIN must name the binary under test");
  return path;
}

/** The environment without variables that are settings: all settings come from flags. */
function plainEnvironment() {
  const isSetting = ([name]) => name === "RUST_LOG" || name.startsWith("DOWNBEAT_");
  return Object.fromEntries(Object.entries(process.env).filter((entry) => !isSetting(entry)));
}
