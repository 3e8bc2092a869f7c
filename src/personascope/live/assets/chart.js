// The trajectory: the position of every reply, or of every token, in both columns; other conversations behind.

import { signed } from "./scale.js";
import { draw, mark, place, polyline, pressable, tick, ticks, writeLevel } from "./svg.js";

const WIDTH = 340;
const HEIGHT = 230;
const EDGE = { left: 34, right: 8, top: 10, bottom: 26 };
const WINDOW = 16;

/** Return the points of a column: x, position, turn, and the token. */
function points(talk, column, mode, before) {
  const found = [];
  let at = 0;
  talk.turns.forEach((turn, number) => {
    const reply = turn.replies[column];
    if (mode === "turn") {
      const whole = reply.answer ?? mean(reply.tokens);
      if (whole) found.push({ x: number + 1, y: place(whole, before), turn: number, token: null });
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
      if (last.length >= Math.min(WINDOW, read.length))
        found.push({ x: at, y: sum / last.length, turn: number, token: one });
    }
  });
  return found;
}

function mean(tokens) {
  const read = tokens.filter((one) => one.part === "answer" && Number.isFinite(one.position));
  if (!read.length) return null;
  const over = (name) => read.reduce((sum, one) => sum + one[name], 0) / read.length;
  const known = read.every((one) => Number.isFinite(one.before));
  return { position: over("position"), before: known ? over("before") : null };
}

/** Draw the chart. `visit` is called with a turn, a column and a token, or null for a whole reply. */
export function drawChart(into, { talk, others, source, names, mode, before, visit }) {
  const note = document.getElementById("chart-note");
  // A point that has the focus keeps it when the chart is drawn anew.
  const focused = into.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  into.replaceChildren();
  if (!source?.map) {
    note.textContent = "This server has no map, so that replies have no position. Start it with --map RUN.";
    return;
  }
  const mine = [0, 1].map((column) => points(talk, column, mode, before));
  const flat = mine.flat();
  const { map, monitor } = source;
  const limit = Number.isFinite(monitor?.limit) ? monitor.limit : null;
  const values = [-0.2, 1.2, ...flat.map((point) => point.y), ...(limit === null ? [] : [limit])];
  const span = Math.max(...values) - Math.min(...values);
  const low = Math.min(...values) - span * 0.06;
  const high = Math.max(...values) + span * 0.06;
  const most = Math.max(mode === "turn" ? 2 : 10, ...flat.map((point) => point.x));
  const right = WIDTH - EDGE.right;
  const bottom = HEIGHT - EDGE.bottom;
  const x = (value) => EDGE.left + 8 + ((value - 1) / Math.max(1, most - 1)) * (right - EDGE.left - 16);
  const y = (value) => EDGE.top + ((high - value) / (high - low)) * (bottom - EDGE.top);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group" });
  svg.setAttribute("aria-label", describe(mine, names, mode));
  const clip = draw("clipPath", { id: "plot" });
  clip.append(draw("rect", { x: EDGE.left, y: EDGE.top, width: right - EDGE.left, height: bottom - EDGE.top }));
  svg.append(clip);
  const lines = mine.map((line) => line.map((point) => [x(point.x), y(point.y)]));
  frame(svg, { map, limit, low, high, x, y, right, bottom, most, mode, lines });
  for (const other of others) {
    if (other === talk || other.source !== talk.source) continue;
    for (const column of [0, 1]) {
      const line = points(other, column, mode, before).filter((point) => point.x <= most);
      const drawn = polyline(line.map((point) => [x(point.x), y(point.y)]), `other c${column}`);
      drawn.setAttribute("clip-path", "url(#plot)");
      svg.append(drawn);
    }
  }
  mine.forEach((line, column) => {
    svg.append(polyline(lines[column], `line c${column}`));
    if (mode === "token") return;
    for (const point of line) {
      const label = `${names[column]}, turn ${point.turn + 1}: ${signed(point.y)}`;
      svg.append(pressable(mark(column, x(point.x), y(point.y), 4.8), label, () => visit(point.turn, column)));
    }
  });
  if (mode === "token" && flat.length) {
    svg.classList.add("pick");
    svg.addEventListener("click", (event) => pick(event, svg, mine, x, y, visit));
  }
  into.append(svg);
  if (focused) [...svg.querySelectorAll("[role=button]")].find((one) => one.ariaLabel === focused)?.focus();
  note.textContent = said(map, monitor, mode, before);
}

/** Draw what the lines are read against, and their words. */
function frame(svg, { map, limit, low, high, x, y, right, bottom, most, mode, lines }) {
  const band = map.default_percentiles;
  if (band) {
    const top = Math.max(EDGE.top, Math.min(bottom, y(band["95"])));
    const height = Math.max(0, Math.min(bottom, y(band["5"])) - top);
    svg.append(draw("rect", { class: "band", x: EDGE.left, y: top, width: right - EDGE.left, height }));
  }
  for (const value of ticks(low, high)) {
    if (value === 0 || value === 1) continue;
    svg.append(draw("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value)));
  }
  for (const [value, name] of [[0, "the mean role"], [1, "the default Assistant"]]) {
    svg.append(draw("line", { class: "unit", x1: EDGE.left, x2: right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    svg.append(writeLevel(name, y(value), [EDGE.left, right], lines));
  }
  if (limit !== null) {
    svg.append(draw("line", { class: "limit", x1: EDGE.left, x2: right, y1: y(limit), y2: y(limit) }));
    svg.append(draw("text", { class: "limit-text on", x: right - 2, y: y(limit) + 12, "text-anchor": "end" }, "alarm below"));
  }
  if (mode === "turn" && most <= 20)
    for (let turn = 1; turn <= most; turn += 1)
      svg.append(draw("text", { x: x(turn), y: bottom + 13, "text-anchor": "middle" }, String(turn)));
  const label = mode === "turn" ? "turn" : "token";
  svg.append(draw("text", { x: (right + EDGE.left) / 2, y: HEIGHT - 2, "text-anchor": "middle" }, label));
}

/** Visit the token whose point is nearest to a click. */
function pick(event, svg, lines, x, y, visit) {
  const box = svg.getBoundingClientRect();
  const scale = WIDTH / box.width;
  const at = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  let best = null;
  lines.forEach((line, column) => line.forEach((point) => {
    const far = Math.hypot(x(point.x) - at[0], y(point.y) - at[1]);
    if (!best || far < best.far) best = { far, point, column };
  }));
  if (best) visit(best.point.turn, best.column, best.point.token);
}

function said(map, monitor, mode, before) {
  const parts = ["Higher is nearer the Assistant."];
  if (map.default_percentiles) parts.push("The band holds nine in ten single replies of the default.");
  if (mode === "token") parts.push(`Each point is the mean of ${WINDOW} tokens.`);
  if (before) parts.push("Shown before the plan acts at this layer.");
  if (monitor && !Number.isFinite(monitor.limit)) parts.push("The monitor adds up deviations; its alarms are marked.");
  return parts.join(" ");
}

function describe(columns, names, mode) {
  const told = columns.map((line, column) => {
    if (!line.length) return `${names[column]}: no position yet`;
    const ends = `${signed(line[0].y)} to ${signed(line[line.length - 1].y)}`;
    return `${names[column]}: ${ends} over ${line.length} ${mode}${line.length === 1 ? "" : "s"}`;
  });
  return `Trajectory. ${told.join(". ")}.`;
}
