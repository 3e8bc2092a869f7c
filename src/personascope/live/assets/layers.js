// The drawer by layer: where a reply, or one of its tokens, lies at every layer, after the plan and before it.

import { make, signed } from "./scale.js";
import { draw, polyline, tick, ticks, writeLevel } from "./svg.js";

const WIDTH = 340;
const HEIGHT = 230;
const EDGE = { left: 34, right: 8, top: 10, bottom: 28 };

/** Return what is shown: both columns of a turn, or one token. */
function chosen(talk, picked) {
  const has = (turn) => turn?.replies.some((reply) => reply.answer?.layers);
  let number = picked ? picked.turn : talk.turns.length - 1;
  if (!picked) while (number >= 0 && !has(talk.turns[number])) number -= 1;
  const turn = talk.turns[number];
  if (!turn) return { number: -1, lines: [null, null], token: null };
  const lines = turn.replies.map((reply) => (reply.answer?.layers ? reply.answer : null));
  const token = picked?.token ?? null;
  if (!token?.layers) return { number, lines, token: null };
  lines[picked.column] = token;
  lines[1 - picked.column] = null;
  return { number, lines, token };
}

/** Draw the positions by layer, or say how to get them. */
export function drawLayers(into, { talk, source, names, picked, reads }) {
  into.replaceChildren();
  const box = document.getElementById("read-layers");
  const map = source?.map;
  const few = source?.reads?.layers === false;
  box.checked = reads && !few;
  box.closest("label").hidden = few;
  document.getElementById("layers-cost").textContent = map?.layers
    ? `Each token is then projected at ${map.layers.length} layers, before and after the plan; docs/live.md says what it costs.` : "";
  if (!map?.layers) {
    into.append(make("p", "fine", "Positions by layer need a map of the model (--map RUN)."));
    return;
  }
  const { number, lines, token } = chosen(talk, picked);
  if (few && !lines.some(Boolean)) {
    document.getElementById("layers-cost").textContent = "";
    into.append(make("p", "fine", "This server cannot read every layer: the tables of CUDA graphs hold fewer probes, or some layers are not instrumented."));
    return;
  }
  if (!lines.some(Boolean)) {
    const which = talk.turns.length ? "These replies were" : "Replies are";
    into.append(make("p", "fine", `${which} read at layer ${map.layer} alone. Tick the box, and the next reply is read at every layer.`));
    return;
  }
  const what = token ? `the token ${JSON.stringify(token.text)}` : "the whole reply";
  into.append(make("p", "fine", `Turn ${number + 1}: ${what}, position at each layer.`), picture(map, lines, names));
  const legend = make("p", "fine", "Upright strokes: how far the plan moved it at that layer. The grey line is the layer of the tint. Point at a token for its own line.");
  into.append(legend);
}

function picture(map, lines, names) {
  const all = lines.flatMap((one) => (one ? [...one.layers, ...(one.layers_before ?? [])] : [])).filter(Number.isFinite);
  // The first layers may be far off, so the picture leaves the outermost values out.
  const sorted = [...all].sort((a, b) => a - b);
  const cut = Math.floor(sorted.length * 0.02);
  const low = Math.min(-0.2, sorted[cut]) - 0.1;
  const high = Math.max(1.2, sorted[sorted.length - 1 - cut]) + 0.1;
  const last = Math.max(1, ...map.layers);
  const right = WIDTH - EDGE.right;
  const bottom = HEIGHT - EDGE.bottom;
  const x = (layer) => EDGE.left + (layer / last) * (right - EDGE.left);
  const y = (value) => EDGE.top + ((high - value) / (high - low)) * (bottom - EDGE.top);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  svg.setAttribute("aria-label", describe(map, lines, names));
  const clip = draw("clipPath", { id: "layers-plot" });
  clip.append(draw("rect", { x: EDGE.left, y: EDGE.top, width: right - EDGE.left, height: bottom - EDGE.top }));
  svg.append(clip);
  svg.append(draw("line", { class: "here", x1: x(map.layer), x2: x(map.layer), y1: EDGE.top, y2: bottom }));
  for (const value of ticks(low, high))
    svg.append(draw("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, tick(value)));
  const seen = lines.map((one) => map.layers.map((layer, at) => [layer, one?.layers[at]])
    .filter(([, value]) => Number.isFinite(value)).map(([layer, value]) => [x(layer), y(value)]));
  for (const [value, name] of [[0, "the mean role"], [1, "the default Assistant"]]) {
    svg.append(draw("line", { class: "unit", x1: EDGE.left, x2: right, y1: y(value), y2: y(value) }));
    svg.append(writeLevel(name, y(value), [EDGE.left, right], seen));
  }
  for (const layer of ticks(0, last, 5))
    svg.append(draw("text", { x: x(layer), y: bottom + 13, "text-anchor": "middle" }, tick(layer)));
  svg.append(draw("text", { x: (EDGE.left + right) / 2, y: HEIGHT - 2, "text-anchor": "middle" }, "layer"));
  lines.forEach((one, column) => {
    if (!one) return;
    const line = polyline(seen[column], `line c${column}`);
    const moves = map.layers.map((layer, at) => [layer, one.layers_before?.[at], one.layers[at]])
      .filter(([, from, to]) => Number.isFinite(from) && Number.isFinite(to) && Math.abs(to - from) >= 0.005)
      .map(([layer, from, to]) => draw("line", { class: `moved c${column}`, x1: x(layer), x2: x(layer), y1: y(from), y2: y(to) }));
    for (const shape of [...moves, line]) {
      shape.setAttribute("clip-path", "url(#layers-plot)");
      svg.append(shape);
    }
  });
  return svg;
}

function describe(map, lines, names) {
  const parts = lines.map((one, column) => {
    if (!one) return "";
    const told = map.layers.map((layer, at) => `${layer}: ${signed(one.layers[at], 1)}`);
    return `${names[column]}, by layer, ${told.join(", ")}`;
  });
  return `Position by layer. ${parts.filter(Boolean).join(". ")}.`;
}
