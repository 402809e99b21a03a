// Runs the scenarios: `node --test-reporter=spec main.mjs [FILTER]`, where a scenario is run if
// "group: name" contains FILTER. `cargo xtask interop` sets up what this needs:
//
//   DOWNBEAT_BIN             the binary under test
//   DOWNBEAT_INTEROP_SERVER  "reference" to run against the reference server instead
//   DOWNBEAT_INTEROP_VERBOSE any value: the clients' own logs

import { after, describe, it } from "node:test";

import { run } from "./lib/scenario.mjs";

const GROUPS = [
  "serving",
  "sharing",
  "concurrent-changes",
  "live-updates",
  "many-sessions",
  "restart",
  "unavailable",
  "binary-stream",
  "large-values",
  "jazz-tools",
  "bad-input",
  "corrections",
  "healing",
  "quotas",
  "offline",
  "broken-transfers",
  "slow-clients",
  "groups",
  "invites",
  "branches",
  "deletion",
  "reconciliation",
  "chains",
  "tcp",
  "access",
  "limits",
  "tls",
  "old-clients",
  "reference-file",
];

/** The time limit of the run. Scenarios have their own limits, so only a stuck harness exceeds it. */
const RUN_LIMIT = 8 * 60_000;

/** The time for a scenario's cleanup after its limit. */
const CLEANUP_LIMIT = 30_000;

/** The time in which the process must end after its last scenario. */
const LEFTOVER_LIMIT = 5_000;

const filter = (process.argv[2] ?? "").toLowerCase();

const selected = [];
for (const group of GROUPS) {
  const { scenarios } = await import(`./scenarios/${group}.mjs`);
  const matching = scenarios.filter(({ name }) =>
    `${group}: ${name}`.toLowerCase().includes(filter),
  );
  if (matching.length > 0) selected.push([group, matching]);
}

if (selected.length === 0) {
  console.error(`no scenario's name contains "${filter}"`);
  process.exit(1);
}

setTimeout(() => {
  console.error(`the scenarios did not end within ${RUN_LIMIT / 1_000} s`);
  process.exit(1);
}, RUN_LIMIT).unref();

// Every scenario closes what it opened, so nothing may keep the process alive after the last.
after(() => {
  setTimeout(() => {
    console.error(`left open by a scenario: ${process.getActiveResourcesInfo().join(", ")}`);
    process.exit(1);
  }, LEFTOVER_LIMIT).unref();
});

for (const [group, scenarios] of selected) {
  describe(group, () => {
    for (const scenario of scenarios) {
      it(scenario.name, { timeout: scenario.limit + CLEANUP_LIMIT }, () => run(scenario));
    }
  });
}
