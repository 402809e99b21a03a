// The server under test as a child process: start, watch, stop.
//
// Downbeat and the reference server are told the same arguments and keep the same contract (the
// address on standard output, logs on standard error, a clean exit on SIGTERM and SIGINT), so no
// scenario needs to know which of them it talks to.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { pause, within } from "./waiting.mjs";

/** A server that has not printed its address by then has failed to start. */
const START_LIMIT = 15_000;

/** A clean stop: flush the storage, close the sockets, exit. */
const STOP_LIMIT = 10_000;

/** How long a log line may take from the event that it is about. */
const LOG_LIMIT = 3_000;

/** How long to wait for a second line where only one is expected. */
const LOG_SETTLING = 250;

const REFERENCE = fileURLToPath(new URL("./reference-server.mjs", import.meta.url));

/** Whether the scenarios run against the reference server (DOWNBEAT_INTEROP_SERVER=reference). */
export const againstReference = process.env.DOWNBEAT_INTEROP_SERVER === "reference";

/** A command that does its work and ends, such as `downbeat key add`. */
const COMMAND_LIMIT = 10_000;

/** Runs a command of the binary under test; gives what it prints. */
export async function downbeat(...args) {
  const { stdout } = await promisify(execFile)(binary(), args, {
    timeout: COMMAND_LIMIT,
    env: plainEnvironment(),
  });
  return stdout.trim();
}

const running = new Set();

// The last resort, for a run that is interrupted or gives up: no server outlives it.
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
   * `storage` as on the command line: `memory` or `sled:DIR`. `upstreams` are servers, or lines
   * to them, that this one is to be a client of. `reference` makes it the reference server.
   * `flags` are further ones, for Downbeat alone. `authority` is the certificate (PEM) by which
   * clients are to know a server that speaks TLS.
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

  /** Stops the server as an operator would and asserts that it leaves cleanly. */
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

  /** Ends the server as a power cut would, with no chance to write anything more. */
  async kill() {
    this.#end("SIGKILL");
    await within(STOP_LIMIT, "end of the killed server", this.#exit);
  }

  /** The number of log lines so far; what comes later is "after the mark". */
  logMark() {
    return this.#log.length;
  }

  /**
   * Waits for a warning or error that names the peer by its address, and asserts that there is
   * exactly one after `mark`. Lines of other levels may come and go.
   *
   * The reference says little and nothing of the peer, so nothing is asked of it.
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

  /** The port for other servers (`--tcp-port`), to be used as their upstream. */
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

  /** For the end of a scenario: the process is gone afterwards, whatever state it was in. */
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

  /** Everything that the server has said, on standard output and in its log. */
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

/** Without variables that are settings: the server has only those that it is given as flags. */
function plainEnvironment() {
  const isSetting = ([name]) => name === "RUST_LOG" || name.startsWith("DOWNBEAT_");
  return Object.fromEntries(Object.entries(process.env).filter((entry) => !isSetting(entry)));
}
