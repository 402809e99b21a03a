// Runs the reference: each line of input has a suite's name and a batch of cases, and each line of
// output has the answers, in order.

import { createInterface } from "node:readline";

import { cojson } from "./packages.mjs";
import { deletes } from "./suites/deletes.mjs";
import { hashes } from "./suites/hashes.mjs";
import { headers } from "./suites/headers.mjs";
import { json } from "./suites/json.mjs";
import { knownStates } from "./suites/known-states.mjs";
import { pieces } from "./suites/pieces.mjs";
import { roles } from "./suites/roles.mjs";
import { signatures } from "./suites/signatures.mjs";
import { transactions } from "./suites/transactions.mjs";

const suites = {
  deletes,
  hashes,
  headers,
  json,
  "known-states": knownStates,
  pieces,
  roles,
  signatures,
  transactions,
};

// Cases cause errors on purpose. The answers contain the relevant information.
cojson.logger.setLevel(cojson.LogLevel.NONE);

// The native core panics for a signer that is not a point of the curve: it prints a report, throws to
// its caller, and causes an unhandled error.
console.error = () => {};
process.on("uncaughtException", (error) => {
  if (/^Wasm panic:/.test(error.message)) return;
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  const { suite, cases } = JSON.parse(line);
  const answers = [];
  for (const each of cases) answers.push(answerTo(suites[suite], each));
  process.stdout.write(`${JSON.stringify(answers)}\n`);
}

/** The answer of a suite, or the `answer` of the error that it throws. */
function answerTo(suite, each) {
  try {
    return { answer: suite(each) };
  } catch (error) {
    return { answer: error.answer ?? null, note: String(error.stack ?? error).toWellFormed() };
  }
}
