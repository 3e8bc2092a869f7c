// The trajectory: the position of every reply, or of every token, in both columns; other conversations beside.

import { signed } from "./scale.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 340;
const HEIGHT = 210;
const EDGE = { left: 30, right: 8, top: 10, bottom: 24 };
const WINDOW = 16;

function draw(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

const place = (one, before) => (before && Number.isFinite(one.before) ? one.before : one.position);

/** Return the points of a column: x, position, turn. */
function points(talk, column, mode, before) {
  const found = [];
  let at = 0;
  talk.turns.forEach((turn, number) => {
    const reply = turn.replies[column];
    if (mode === "turn") {
      const whole = reply.answer ?? mean(reply.tokens);
      if (whole) found.push({ x: number + 1, y: place(whole, before), turn: number });
      return;
    }
    // Tokens are noisy: each point is the mean of the last sixteen of its reply.
    const read = reply.tokens.filter((one) => one.part === "answer" && Number.isFinite(one.position));
    let sum = 0;
    const last = [];
    for (const one of read) {
      last.push(place(one, before));
      sum += last[last.length - 1];
      if (last.length > WINDOW) sum -= last.shift();
      at += 1;
      if (last.length >= Math.min(WINDOW, read.length)) found.push({ x: at, y: sum / last.length, turn: number });
    }
  });
  return found;
}

function mean(tokens) {
  const read = tokens.filter((one) => one.part === "answer" && Number.isFinite(one.position));
  if (!read.length) return null;
  const of = (name) => read.reduce((sum, one) => sum + (one[name] ?? one.position), 0) / read.length;
  return { position: of("position"), before: of("before") };
}

/** Draw the chart; `visit` is called with a turn and a column when a point is chosen. */
export function drawChart(into, { conversations, current, mode, before, about, names, visit }) {
  const map = about?.map;
  const note = document.getElementById("chart-note");
  into.replaceChildren();
  if (!map) {
    note.textContent = "This server has no map, so that replies have no position. Start it with --map RUN.";
    return;
  }
  const all = conversations.map((talk) => [0, 1].map((column) => points(talk, column, mode, before)));
  const flat = all.flat(2);
  const limit = about.monitor && Number.isFinite(about.monitor.limit) ? about.monitor.limit : null;
  const values = [0, 1, ...flat.map((point) => point.y), ...(limit === null ? [] : [limit])];
  const span = Math.max(...values) - Math.min(...values) || 1;
  const low = Math.min(...values) - span * 0.08;
  const high = Math.max(...values) + span * 0.08;
  const most = Math.max(mode === "turn" ? 2 : 10, ...flat.map((point) => point.x));
  const x = (value) => EDGE.left + ((value - 1) / Math.max(1, most - 1)) * (WIDTH - EDGE.left - EDGE.right - 8) + 4;
  const y = (value) => EDGE.top + ((high - value) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group" });
  svg.setAttribute("aria-label", describe(all[current], names, mode));
  const band = map.default_percentiles;
  if (band) {
    const top = Math.max(EDGE.top, Math.min(HEIGHT - EDGE.bottom, y(band["95"])));
    const bottom = Math.max(EDGE.top, Math.min(HEIGHT - EDGE.bottom, y(band["5"])));
    svg.append(draw("rect", {
      class: "band", x: EDGE.left, y: top, width: WIDTH - EDGE.left - EDGE.right, height: Math.max(0, bottom - top),
    }));
  }
  for (const value of [0, 1]) {
    svg.append(draw("line", { class: "unit", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  if (limit !== null) {
    svg.append(draw("line", { class: "limit", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(limit), y2: y(limit) }));
    svg.append(draw("text", {
      class: "limit-text", x: WIDTH - EDGE.right, y: y(limit) + 12, "text-anchor": "end",
    }, "alarm below"));
  }
  svg.append(draw("text", { x: (WIDTH + EDGE.left) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, mode));
  all.forEach((columns, number) => {
    if (number === current) return;
    columns.forEach((line, column) => svg.append(path(line, x, y, `other c${column}`)));
  });
  all[current].forEach((line, column) => {
    svg.append(path(line, x, y, `line c${column}`));
    if (mode === "turn") for (const point of line) svg.append(dot(point, column, x, y, names, visit));
  });
  into.append(svg);
  note.textContent = said(band, about.monitor, mode, before);
}

function said(band, monitor, mode, before) {
  const parts = ["0 is the mean role, 1 the default Assistant."];
  if (band) parts.push("The band holds nine in ten single replies of the default.");
  if (mode === "token") parts.push(`Each point is the mean of ${WINDOW} tokens.`);
  if (before) parts.push("Shown before the plan acts at this layer.");
  if (monitor && !Number.isFinite(monitor.limit)) parts.push("The monitor adds up deviations; its alarms are marked.");
  return parts.join(" ");
}

function path(line, x, y, name) {
  const corners = line.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`);
  return draw("polyline", { class: name, points: corners.join(" ") });
}

function dot(point, column, x, y, names, visit) {
  const shape = column === 0
    ? draw("circle", { r: 4.5, cx: x(point.x), cy: y(point.y) })
    : draw("rect", { width: 8.5, height: 8.5, x: x(point.x) - 4.25, y: y(point.y) - 4.25 });
  shape.setAttribute("class", `p${column}`);
  shape.setAttribute("tabindex", "0");
  shape.setAttribute("role", "button");
  const label = `${names[column]}, turn ${point.turn + 1}: ${signed(point.y)}`;
  shape.setAttribute("aria-label", label);
  shape.append(draw("title", {}, label));
  shape.addEventListener("click", () => visit(point.turn, column));
  shape.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    visit(point.turn, column);
  });
  return shape;
}

function describe(columns, names, mode) {
  const told = columns.map((line, column) => {
    if (!line.length) return `${names[column]}: no position yet`;
    const ends = `${signed(line[0].y)} to ${signed(line[line.length - 1].y)}`;
    return `${names[column]}: ${ends} over ${line.length} ${mode}${line.length === 1 ? "" : "s"}`;
  });
  return `Trajectory. ${told.join(". ")}.`;
}
