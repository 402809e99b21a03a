// Records the vectors of crates/protocol/tests/vectors from the reference implementation.
//
//   node protocol-vectors.mjs <directory to write to>
//
// Every run gives the same vectors, except for the messages, which have new keys.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { cojson, crypto, internals } from "./packages.mjs";

const { idforHeader, stableStringify } = internals;
const directory = process.argv[2] ?? ".";

// A small generator (mulberry32), so that every run gives the same cases.
let state = 0x00d0_3bea;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
}
const below = (bound) => Math.floor(random() * bound);
const pick = (choices) => choices[below(choices.length)];

function save(name, cases) {
  // One case on each line, so that diffs are readable. Other characters than ASCII are escaped, so
  // that editors do not change them.
  const lines = cases.map((one) =>
    JSON.stringify(one).replace(
      /[\u007f-\uffff]/g,
      (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"),
    ),
  );
  writeFileSync(join(directory, name), `[\n${lines.join(",\n")}\n]\n`);
}

// --- Canonical JSON ------------------------------------------------------------------------------

const NUMBERS = [
  "0", "-0", "0.0", "-0.0", "0e5", "1", "-1", "1.0", "10", "1e2", "1E+2", "100e-2", "0.1", "0.10",
  "1e21", "1e20", "123456789012345680000", "999999999999999999999", "1e-6", "1e-7", "0.000001",
  "0.0000001", "1.5e-7", "1e-400", "5e-324", "2e-324", "3e-324", "1.7976931348623157e308", "1e309",
  "-1e309", "9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740993",
  "4503599627370497.5", "0.30000000000000004", "123456789.123456789", "999999999999999", "1e15",
  "1000000000000000", "12345678901234567890", "5e-1", "1.7976931348623159e308",
];

const STRINGS = [
  '""', '"a"', '"\\u0061"', '"\\/"', '"/"', '"\\""', '"\\\\"', '"\\b\\f\\n\\r\\t"',
  '"\\u0008\\u000c\\u000a\\u000d\\u0009"', '"\\u0000\\u001F\\u001f\\u000b"', '"\\u007f"', '"\u007f"',
  '"\\u0080"', '"\\u00e9"', '"\u00e9"', '"\\u2028\\u2029"', '"\u2028\u2029"', '"\\ufeff"',
  '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '"\u{1f600}"', '"\\ud83d"', '"\\uDE00"',
  '"\\ude00\\ud83d"', '"\\ud83d\\ud83d\\ude00"', '"\\ud83dx"', '"\\ud83d\\n"', '"\\uffff"',
  '"encrypted_Uabc"', '"encrypted_U\\"a\\\\b\\n"', '"binary_U\\u0001\\u00e9"', '"encrypted_"',
  '"encrypted_\\u0055\\"x"', '"\\u0062inary_U"', '"binary_u\\""', '"xencrypted_U\\""',
  '"binary_U\\ud83d\\ude00"', '"encrypted_U\\t"', '"<>&\'"',
];

const NAMES = [
  '"a"', '"b"', '"\\u0061"', '"A"', '""', '"10"', '"9"', '"__proto__"', '"constructor"', '"\u00e9"',
  '"\\ud800\\udc00"', '"\uffee"', '"\ue000"', '"\\ud800"', '"encrypted_U\\""', '"a\\u0000"', '"aa"',
  '"toString"', '"\\n"', '"-1"',
];

const space = () => (below(4) ? "" : pick([" ", "\n", "\t", "\r\n", "  "]));

function value(depth) {
  const kind = below(depth > 0 ? 8 : 6);
  if (kind < 2) return pick(NUMBERS);
  if (kind < 4) return pick(STRINGS);
  if (kind < 5) return pick(["null", "true", "false"]);
  if (kind < 6) return String((random() - 0.5) * 10 ** (below(60) - 30));
  const items = Array.from({ length: below(5) }, () => {
    const item = space() + value(depth - 1) + space();
    return kind < 7 ? item : `${space()}${pick(NAMES)}${space()}:${item}`;
  });
  return kind < 7 ? `[${items.join(",")}${space()}]` : `{${items.join(",")}${space()}}`;
}

// Strings without escapes can have lone surrogates, which become U+FFFD when hashed.
const toUtf8 = (text) => Buffer.from(text, "utf8").toString("utf8");

function canonicalCases() {
  const inputs = [...NUMBERS, ...STRINGS];
  inputs.push(...NAMES.map((name) => `{"b":1,${name}:2,"a":3}`));
  for (let index = 0; index < 120; index++) inputs.push(space() + value(4) + space());
  return inputs.map((input) => [input, toUtf8(stableStringify(JSON.parse(input)))]);
}

// --- Headers -------------------------------------------------------------------------------------

const ACCOUNT = "co_z4ht58AuLQgjaGmagVHAARGVRWk";
const AGENT =
  "sealer_z8m6gBhpziw9X3kyL6zAfrQZeJg1muNQ7HGb3ubfaacoy/signer_zCCNZwhNyJmGASCY1ZLAJsqqr7KPuS8RFUaA9hgZNJUGB";

function headerCases() {
  const base = {
    type: "comap",
    ruleset: { type: "unsafeAllowAll" },
    meta: null,
    createdAt: "2024-05-01T12:00:00.000Z",
    uniqueness: "z4br3F6sRwRzoY4hy9",
  };
  const variants = [
    {},
    ...[undefined, null, "", "foo", 5, {}, true].map((createdAt) => ({ createdAt })),
    ...[
      null, true, false, "", "\n\u00e9\u{1f600}", 0, -0, 5, -5, 1.5, 1e-7, 2 ** 53, 2 ** 62, 2 ** 63,
      2 ** 64, 1e21, -(2 ** 63), 1024 - 2 ** 63, {}, { a: "b" }, { b: "", a: "\u0000" }, { "\ud800\udc00": "1", "\uffee": "2" }, 'binary_U"',
      { a: 1 }, { a: null }, { a: true }, { a: { b: "c" } }, [], ["a"], "encrypted_Uabc",
    ].map((uniqueness) => ({ uniqueness })),
    ...[
      undefined, {}, { type: "binary" }, { type: 5 }, { source: ACCOUNT, branch: "x" },
      { b: [1, { z: 1, a: 2 }], a: "\u2028" }, "text", 5, true, [], { a: "encrypted_Uabc" },
      { a: "\ud800" }, { "\ud800": 1 }, { a: 'encrypted_U"' }, { a: "binary_U\n" },
      { "encrypted_U\"": 1 }, { a: 0.5 },
      [1e-6, 1e-7, 1e20, 1e21, -(2 ** 63), 2 ** 64, 2.5198666249170602e269, 1298487918110469.25],
      { "\ud800\udc00": 1, "\uffee": 2 }, JSON.parse('{"__proto__":{"a":1}}'),
    ].map((meta) => ({ meta })),
    ...["", "foo", 1, null, undefined, "a\"b"].map((type) => ({ type })),
    ...[
      { type: "group", initialAdmin: AGENT },
      { type: "group", initialAdmin: ACCOUNT },
      { type: "group", initialAdmin: 1 },
      { type: "group" },
      { type: "group", group: ACCOUNT },
      { type: "group", initialAdmin: AGENT, more: 1 },
      { type: "group", initialAdmin: AGENT, restrictDeletion: true },
      { type: "ownedByGroup", group: ACCOUNT },
      { type: "ownedByGroup", group: ACCOUNT, restrictDeletion: true },
      { type: "ownedByGroup", group: ACCOUNT, restrictDeletion: false },
      { type: "ownedByGroup", group: ACCOUNT, restrictDeletion: null },
      { type: "ownedByGroup", group: ACCOUNT, restrictDeletion: "yes" },
      { type: "ownedByGroup", group: ACCOUNT, more: 1 },
      { type: "ownedByGroup", initialAdmin: ACCOUNT },
      { type: "ownedByGroup" },
      { type: "unsafeAllowAll", more: 1 },
      { type: "other", group: ACCOUNT },
      {}, null, undefined, "unsafeAllowAll", ["unsafeAllowAll"],
    ].map((ruleset) => ({ ruleset })),
    { more: 1 },
  ];
  return variants.map((variant) => {
    const header = JSON.stringify({ ...base, ...variant });
    try {
      // Without verification the id does not matter.
      const canonical = crypto.createSessionMap("co_z1", header, 102400, true).getHeader();
      return { header, canonical };
    } catch {
      return { header, canonical: null };
    }
  });
}

// --- Transactions --------------------------------------------------------------------------------

function transactionCases() {
  const trusting = { changes: "[]", madeAt: 1, privacy: "trusting" };
  const secret = { encryptedChanges: "encrypted_Uabc", keyUsed: "key_z1", madeAt: 1, privacy: "private" };
  const texts = [
    "", "\u00e9\u{1f600}\u20ac", "\"\\/\b\f\n\r\t", "\u0000\u001f\u007f\u0080\u2028", "\ud800",
    "\\ud800", 'encrypted_U"', "binary_U\n", "encrypted_U\u{1f600}", 5, null, [], undefined,
  ];
  const variants = [
    ...[trusting, secret].flatMap((base) => [
      base,
      ...[null, "", "{}", "text", "\"", 5, {}].map((meta) => ({ ...base, meta })),
      ...[
        0, -0, 1795333719289, 2 ** 53, 2 ** 53 + 2, 1e15, 1e16, 2 ** 63, 2 ** 64 - 2048, 2 ** 64,
        1e21, -1, 1.5, 1e-7, "1", null, true, undefined,
      ].map((madeAt) => ({ ...base, madeAt })),
      ...["private", "trusting", "other", "", null, 5, undefined].map((privacy) => ({ ...base, privacy })),
      { ...base, more: { a: [1, "\u00e9"] } },
      { ...base, more: "\ud800" },
      { ...base, "\ud800": 1 },
    ]),
    ...texts.map((changes) => ({ ...trusting, changes })),
    ...texts.map((encryptedChanges) => ({ ...secret, encryptedChanges })),
    ...texts.map((keyUsed) => ({ ...secret, keyUsed })),
    { ...secret, changes: "[]" },
    { ...trusting, keyUsed: "key_z1" },
    { ...trusting, encryptedChanges: "encrypted_Uabc" },
    { ...secret, keyUsed: 5, changes: "[]" },
    { ...secret, encryptedChanges: null, changes: "[]" },
    null, [], 5, "text", {},
  ];
  const header = { type: "comap", ruleset: { type: "unsafeAllowAll" }, meta: null, createdAt: null, uniqueness: null };
  const id = idforHeader(header, crypto);
  return variants.map((transaction) => {
    const map = crypto.createSessionMap(id, JSON.stringify(header), 102400, false);
    const session = `${AGENT}_session_z1`;
    const json = JSON.stringify(transaction);
    try {
      map.addTransactions(session, AGENT.split("/")[1], `[${json}]`, "signature_z1", true);
    } catch {
      return { transaction: json, canonical: null };
    }
    return { transaction: json, canonical: JSON.stringify(map.getTransaction(session, 0)) };
  });
}

// --- Messages ------------------------------------------------------------------------------------

// A peer that claims to have nothing, and keeps the messages that it receives.
async function messageCases() {
  const { node } = await cojson.LocalNode.withNewlyCreatedAccount({ creationProps: { name: "x" }, crypto });
  const sent = [];
  node.syncManager.addPeer({
    id: "server",
    role: "server",
    persistent: true,
    incoming: { close() {}, onMessage() {}, onClose() {} },
    outgoing: { push: (message) => sent.push(JSON.stringify(message)), close() {}, onClose() {} },
  });
  const group = node.createGroup();
  const map = group.createMap();
  map.set("a", 1);
  map.set("b", "\u00e9 \u{1f600} \u2028 \"\\\n", "trusting");
  group.createList(["x", { y: -0 }], { tag: "list" });
  const file = group.createBinaryStream();
  file.startBinaryStream({ mimeType: "text/plain" });
  file.pushBinaryStreamChunk(new Uint8Array([1, 2, 3]));
  file.endBinaryStream();
  await new Promise((resolve) => setTimeout(resolve, 300));
  return sent;
}

save("canonical.json", canonicalCases());
save("headers.json", headerCases());
save("transactions.json", transactionCases());
save("messages.json", await messageCases());
process.exit(0);
