// The status page. It loads /status.json every two seconds and draws the figures. All data is written as
// text, never as markup, because addresses and reasons may come from strangers.
"use strict";

const PERIOD = 2000;
/** The possible time spans of the plots, in minutes. */
const SPANS = [1, 2, 5, 10];
const PLOT_HEIGHT = 152;
const MARGIN = { top: 8, right: 2, bottom: 18, left: 2 };

// ---- Words and numbers ----------------------------------------------------------------------

const whole = new Intl.NumberFormat("en");

function count(value) {
  if (value === null || value === undefined) return "–";
  if (value > 0 && value < 10 && !Number.isInteger(value)) return value.toFixed(1);
  if (value < 10000) return whole.format(Math.round(value));
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return trim(value / size) + " " + unit;
  }
  return whole.format(Math.round(value));
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (value >= size) return trim(value / size) + " " + unit;
  }
  return Math.round(value) + " B";
}

function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 1) return trim(seconds * 1e3) + " ms";
  return trim(seconds) + " s";
}

function trim(value) {
  return value >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

function lasting(millis) {
  const minutes = millis / 60000;
  if (minutes < 10 && minutes % 1 === 0.5) return minutes + " min";
  return lastingWhole(millis, Math.floor(minutes));
}

function lastingWhole(millis, minutes) {
  if (minutes < 1) return Math.max(0, Math.floor(millis / 1000)) + " s";
  if (minutes < 60) return minutes + " min";
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return hours + " h " + (minutes % 60) + " min";
  return Math.floor(hours / 24) + " d " + (hours % 24) + " h";
}

function clock(millis) {
  return new Date(millis).toLocaleTimeString("en-GB");
}

const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
const words = (name) => name.replaceAll("_", " ");
const short = (id) => (id.length > 20 ? id.slice(0, 11) + "…" + id.slice(-6) : id);

// ---- Making elements ------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Fills a table. A row is a list of texts or elements. */
function table(id, caption, columns, rows, nothing) {
  const head = columns.map(({ name, number }) => element("th", number ? { scope: "col", class: "number" } : { scope: "col" }, name));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((cell, index) => {
      const { number, kind } = columns[index];
      const attributes = { class: [number ? "number" : "", kind ?? ""].join(" ").trim() };
      if (index === 0) attributes.scope = "row";
      return element(index === 0 ? "th" : "td", attributes, cell);
    })));
  if (rows.length === 0) {
    body.push(element("tr", { class: "none" }, element("td", { colspan: columns.length }, nothing)));
  }
  byId(id).replaceChildren(
    element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...body),
  );
}

function pairs(id, entries, make) {
  byId(id).replaceChildren(...entries.map(make));
}

// ---- Plots ----------------------------------------------------------------------------------

const charts = [
  { title: "Clients", format: count, series: [["connected", (s) => s.clients]] },
  { title: "Messages per second", format: count, series: [["in", (s) => s.messages[0]], ["out", (s) => s.messages[1]]] },
  { title: "Traffic per second", format: bytes, series: [["in", (s) => s.bytes[0]], ["out", (s) => s.bytes[1]]], binary: true },
  { title: "Time to acknowledge", format: time, series: [["median", (s) => s.acknowledgement[0]], ["99 %", (s) => s.acknowledgement[1]]] },
  { title: "Time to verify", format: time, series: [["median", (s) => s.verification[0]], ["99 %", (s) => s.verification[1]]] },
  { title: "Time to store a batch", format: time, series: [["median", (s) => s.append[0]], ["99 %", (s) => s.append[1]]] },
];

let samples = [];
let latest = 0;
let span = SPANS[0] * 60000;
/** The sample under the pointer, in every plot. */
let pointed = null;

for (const chart of charts) {
  chart.values = chart.series.map(() => element("b", {}, "–"));
  chart.plot = shape("svg", { class: "plot", role: "img", tabindex: "0" });
  const legend = element("ul", { class: "legend" }, ...chart.series.map(([name], index) =>
    element("li", { class: "s" + index }, element("i"), name + " ", chart.values[index])));
  const figure = element("figure", { class: "chart" },
    element("figcaption", {}, element("h3", {}, chart.title), legend), chart.plot);
  byId("charts").append(figure);
  chart.plot.addEventListener("pointermove", (event) => {
    const box = chart.plot.getBoundingClientRect();
    const x = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    point(nearest(latest - span + x * span));
  });
  chart.plot.addEventListener("pointerleave", () => point(null));
  chart.plot.addEventListener("blur", () => point(null));
  chart.plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") point(null);
    if (step === undefined || samples.length === 0) return;
    event.preventDefault();
    const at = pointed === null ? samples.length - 1 : samples.indexOf(pointed) + step;
    point(samples[Math.min(Math.max(at, 0), samples.length - 1)]);
  });
}

function nearest(at) {
  let best = null;
  for (const sample of samples) {
    if (best === null || Math.abs(sample.at - at) < Math.abs(best.at - at)) best = sample;
  }
  return best;
}

function point(sample) {
  pointed = sample;
  drawCharts();
}

/** The smallest round number that is at least a value. */
function roundUp(value, binary) {
  if (!(value > 0)) return 1;
  if (binary) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}

function drawCharts() {
  for (const chart of charts) draw(chart);
}

function draw(chart) {
  const width = chart.plot.clientWidth || 400;
  const inner = { width: width - MARGIN.left - MARGIN.right, height: PLOT_HEIGHT - MARGIN.top - MARGIN.bottom };
  const values = samples.flatMap((sample) => chart.series.map(([, of]) => of(sample)));
  const most = values.reduce((most, value) => Math.max(most, value ?? 0), 0);
  const top = roundUp(most, chart.binary);
  const x = (at) => MARGIN.left + inner.width * (1 - (latest - at) / span);
  const y = (value) => MARGIN.top + inner.height * (1 - value / top);
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    const at = y(top * part);
    parts.push(shape("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
    if (part > 0 && most > 0) {
      parts.push(shape("text", { class: "axis", x: MARGIN.left, y: at + 12 }, chart.format(top * part)));
    }
  }
  for (const [part, anchor] of [[1, "start"], [0.5, "middle"], [0, "end"]]) {
    const text = part === 0 ? "now" : lasting(span * part) + " ago";
    parts.push(shape("text", { class: "axis", x: x(latest - span * part), y: PLOT_HEIGHT - 3, "text-anchor": anchor }, text));
  }
  if (samples.length === 0 || values.every((value) => value === null)) {
    const text = samples.length === 0 ? "waiting for the first figures" : "no values in this time";
    parts.push(shape("text", { class: "empty", x: width / 2, y: PLOT_HEIGHT / 2 }, text));
  }
  chart.series.forEach(([, of], index) => {
    const path = line(samples, (sample) => x(sample.at), of, y);
    if (index === 0 && path.area) parts.push(shape("path", { class: "area", d: path.area(y(0)) }));
    parts.push(shape("path", { class: "line s" + index, d: path.d }));
  });
  if (pointed !== null) {
    parts.push(shape("line", { class: "cursor", x1: x(pointed.at), x2: x(pointed.at), y1: MARGIN.top, y2: PLOT_HEIGHT - MARGIN.bottom }));
  }
  chart.plot.setAttribute("viewBox", `0 0 ${width} ${PLOT_HEIGHT}`);
  chart.plot.replaceChildren(...parts);
  const shown = pointed ?? samples.at(-1);
  const said = chart.series.map(([name, of], index) => {
    const text = shown ? chart.format(of(shown)) : "–";
    chart.values[index].textContent = text;
    return name + " " + text;
  });
  const when = pointed === null ? "now" : "at " + clock(pointed.at);
  const highest = most > 0 ? "; the maximum in this time was " + chart.format(most) : "";
  chart.plot.setAttribute("aria-label", `${chart.title}, ${when}: ${said.join(", ")}${highest}. Arrow keys move through time.`);
}

/** A path with a gap where values are missing. A single value is a dot. */
function line(samples, x, of, y) {
  let d = "";
  let open = false;
  const runs = [];
  for (const sample of samples) {
    const value = of(sample);
    if (value === null || value === undefined) {
      open = false;
      continue;
    }
    const at = [x(sample).toFixed(1), y(value).toFixed(1)];
    d += open ? `L${at}` : `M${at}h0`;
    if (open) runs.at(-1).push(at);
    else runs.push([at]);
    open = true;
  }
  const area = (bottom) => runs.map((run) => `M${run[0][0]},${bottom}L${run.join("L")}L${run.at(-1)[0]},${bottom}Z`).join("");
  return { d, area: runs.length > 0 ? area : null };
}

// ---- The page -------------------------------------------------------------------------------

function show(status) {
  const last = samples.at(-1);
  byId("version").textContent = status.version;
  const state = byId("state");
  const said = status.readiness.replaceAll("\n", "; ");
  state.className = "state " + (!status.ready ? "bad" : said === "ready" ? "good" : "wait");
  if (byId("state-text").textContent !== said) byId("state-text").textContent = said;
  byId("clock").textContent = "as of " + clock(status.now);

  pairs("facts", [
    ["Up", lasting(status.now - status.started)],
    ["URL for clients", status.url],
    ["Storage", status.storage + (status.storage === "memory" ? "" : ", " + status.durability)],
    ["Access", status.access],
    ["TLS", status.encrypted ? "yes" : "no"],
  ], ([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));

  const { memory, stored, writes, latencies } = status;
  const refused = sum(status.rejections);
  const turnedAway = sum(status.connections.refused);
  const grouped = writes.batches > 0 ? trim(writes.stores / writes.batches) + " stores per batch" : "no batch yet";
  pairs("tiles", [
    ["Clients", count(status.peers.clients), count(status.connections.accepted) + " since the start"],
    ["Messages per second", last ? count(last.messages[0] + last.messages[1]) : "–", count(sum(status.received)) + " in, " + count(sum(status.sent)) + " out"],
    ["Acknowledged in", time(latencies.acknowledgement.p50), "99 % within " + time(latencies.acknowledgement.p99)],
    ["CoValues known", stored ? count(stored.coValues) : "–", count(memory.warm) + " warm in memory"],
    ["Stored", stored ? bytes(stored.bytes) : "–", stored && stored.diskBytes !== null ? bytes(stored.diskBytes) + " on disk, " + grouped : grouped],
    ["Memory", bytes(memory.resident), bytes(memory.content) + " of content" + (memory.held > 0 ? ", " + bytes(memory.held) + " held" : "")],
    ["Refused", count(refused), count(turnedAway) + " connections refused", writes.write_retries > 0],
  ], ([name, value, sub, bad]) => element("div", { class: bad ? "tile bad" : "tile" },
    element("dt", {}, name), element("dd", {}, value), element("dd", { class: "sub" }, sub)));

  const most = status.top.length > 0 ? status.top[0].bytes : 1;
  table("top", "CoValues with the most traffic",
    [{ name: "CoValue" }, { name: "", kind: "bar" }, { name: "Bytes", number: true }],
    status.top.slice(0, 10).map((traffic) => {
      const bar = element("span", { "aria-hidden": "true" });
      bar.style.width = (100 * traffic.bytes) / most + "%";
      return [element("span", { class: "id", title: traffic.id }, short(traffic.id)), bar, bytes(traffic.bytes)];
    }), "No content has been synced yet.");

  const actions = Object.keys(status.received).filter((action) => status.received[action] + status.sent[action] > 0);
  table("messages", "Messages by action",
    [{ name: "Action" }, { name: "In", number: true }, { name: "Out", number: true }],
    actions.map((action) => [words(action), whole.format(status.received[action]), whole.format(status.sent[action])]),
    "No messages yet.");

  table("upstreams", "Upstream servers",
    [{ name: "Server" }, { name: "State" }, { name: "For", number: true }, { name: "Unsynced", number: true }],
    status.upstreams.map((upstream) => [
      upstream.name,
      element("span", { class: upstream.connected ? "tag good" : "tag bad" }, upstream.connected ? "connected" : "away"),
      lasting(status.now - upstream.since),
      count(upstream.unsynced),
    ]), "This server has no upstreams.");

  byId("keys-card").hidden = status.keys.length === 0;
  table("keys", "Access keys",
    [{ name: "Key" }, { name: "Connections", number: true }, { name: "Stored", number: true }],
    status.keys.map((key) => [key.name, count(key.connections), bytes(key.stored)]), "");

  const reasons = Object.entries({ ...status.rejections, ...status.connections.refused }).filter(([, number]) => number > 0);
  byId("refused-note").textContent = reasons.length === 0
    ? "No content and no connection has been refused since the start."
    : "Since the start: " + reasons.map(([reason, number]) => words(reason) + " " + count(number)).join(", ") + ".";
  table("refused", "Recent refusals",
    [{ name: "Time" }, { name: "Reason" }, { name: "Peer" }, { name: "CoValue" }, { name: "Detail", kind: "detail" }],
    status.refused.slice(0, 20).map((one) => [
      clock(one.at),
      element("span", { class: "tag" }, words(one.reason)),
      one.key === null ? one.peer : one.peer + " (" + one.key + ")",
      one.coValue === null ? "–" : element("span", { class: "id", title: one.coValue }, short(one.coValue)),
      one.detail,
    ]), "No content has been refused.");
}

async function update() {
  try {
    const since = samples.at(-1)?.at ?? 0;
    const answer = await fetch("status.json?since=" + since, { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
    const status = await answer.json();
    if (samples.length > 0 && status.started > samples.at(-1).at) samples = [];
    latest = status.now;
    samples = [...samples, ...status.history].filter((sample) => sample.at > latest - SPANS.at(-1) * 60000);
    const age = samples.length > 0 ? latest - samples[0].at : 0;
    span = 60000 * (SPANS.find((minutes) => minutes * 60000 >= age) ?? SPANS.at(-1));
    if (pointed !== null && !samples.includes(pointed)) pointed = null;
    show(status);
    drawCharts();
    byId("alert").hidden = true;
    document.body.classList.remove("stale");
  } catch (error) {
    if (byId("alert").hidden) {
      byId("alert").textContent = `No figures since ${clock(Date.now())} (${error.message}). Retrying.`;
      byId("alert").hidden = false;
    }
    document.body.classList.add("stale");
  }
  setTimeout(update, document.hidden ? 5 * PERIOD : PERIOD);
}

// ---- Light and dark -------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
const themes = ["auto", "light", "dark"];
let theme = themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";

function paint() {
  const isDark = theme === "dark" || (theme === "auto" && dark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  byId("theme").textContent = "Theme: " + theme;
}

byId("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  localStorage.setItem("theme", theme);
  paint();
});
dark.addEventListener("change", paint);
addEventListener("resize", drawCharts);

paint();
drawCharts();
update();
