// The certificate of servers that speak TLS, and the authority that signed it.

import { fileURLToPath } from "node:url";

/** The path of a file in `certificates`. */
export const certificate = (name) =>
  fileURLToPath(new URL(`./certificates/${name}`, import.meta.url));

/** The flags of a server with TLS. */
export const TLS_FLAGS = Object.freeze([
  "--tls-cert",
  certificate("server.pem"),
  "--tls-key",
  certificate("server-key.pem"),
]);
