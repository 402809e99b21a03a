// Handshakes that a server does not accept.

import { WebSocket } from "ws";

import { SMALL_LIMIT, within } from "./waiting.mjs";

/** The HTTP status of the server's answer to the handshake; 101 if it accepts. */
export async function handshakeStatus(url) {
  const socket = new WebSocket(url);
  // Ending a socket that is not connected emits an error too.
  socket.on("error", () => {});
  const answer = new Promise((resolve, reject) => {
    socket.once("open", () => resolve(101));
    socket.once("unexpected-response", (_, { statusCode }) => resolve(statusCode));
    socket.once("error", reject);
  });
  try {
    return await within(SMALL_LIMIT, "answer to the handshake", answer);
  } finally {
    socket.terminate();
  }
}
