// The persona space on the first components of the map, flat or turned in three dimensions, with the replies of
// both columns in it. Drawn here and not by a library: a few hundred points need none, and a page that is shared
// stays small.

import { make, signed, tint } from "./scale.js";
import { draw, mark, polyline } from "./svg.js";

const WIDTH = 340;
const HEIGHT = 300;
const EDGE = 16;
const NAMED = 3;

const view = { yaw: 0.6, pitch: 0.35 };

const known = (point) => Array.isArray(point) && point.length > 0 && point.every(Number.isFinite);

/** Return the places of a column's replies, with their turns. */
function path(talk, column, before) {
  return talk.turns.map((turn, number) => {
    const { answer } = turn.replies[column];
    return { turn: number, at: before && known(answer?.space_before) ? answer.space_before : answer?.space };
  }).filter((one) => known(one.at));
}

/** Turn a place by the angles of the view; the third coordinate is its depth. */
function turned(at, flat) {
  const [a, b = 0, c = 0] = at;
  if (flat) return [a, b, 0];
  const { yaw, pitch } = view;
  const x = a * Math.cos(yaw) + c * Math.sin(yaw);
  const deep = c * Math.cos(yaw) - a * Math.sin(yaw);
  return [x, b * Math.cos(pitch) - deep * Math.sin(pitch), deep * Math.cos(pitch) + b * Math.sin(pitch)];
}

/** Return a function from places to the picture; turned, it is as large whatever the angles. */
function projection(places, flat) {
  const ends = (points, index) => {
    const values = points.map((one) => one[index] ?? 0);
    return [Math.min(...values), Math.max(...values)];
  };
  const middle = [0, 1, 2].map((index) => ends(places, index).reduce((sum, one) => sum + one / 2, 0));
  const from = (at) => turned(middle.map((one, index) => (at[index] ?? 0) - one), flat);
  const seen = places.map(from);
  const far = Math.max(1e-9, ...seen.map((one) => Math.hypot(...one)));
  // What lies farthest out is rarely seen from the side, so the picture is a little narrower than the sphere.
  const [[left, right], [low, high]] = flat ? [ends(seen, 0), ends(seen, 1)] : [[-far * 0.85, far * 0.85], [-far * 0.85, far * 0.85]];
  const scale = Math.min((WIDTH - 2 * EDGE) / (right - left || 1), (HEIGHT - 2 * EDGE) / (high - low || 1));
  return (at) => {
    const [x, y, deep] = from(at);
    return [WIDTH / 2 + (x - (left + right) / 2) * scale, HEIGHT / 2 - (y - (low + high) / 2) * scale, deep / far];
  };
}

/** Draw the space and, in words, the nearest roles and traits of the newest replies. */
export function drawSpace(into, { talk, source, names, before, visit, flat }) {
  const { space } = source ?? {};
  const had = into.contains(document.activeElement);
  into.replaceChildren();
  if (!space) {
    into.append(make("p", "fine", "There is no persona space to draw: it comes with a map of the model (--map RUN)."));
    return;
  }
  const paths = [0, 1].map((column) => path(talk, column, before));
  const nearest = [0, 1].map((column) => newest(talk, column));
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: flat ? "img" : "application", class: "space" });
  svg.setAttribute("aria-label", describe(names, nearest, paths, flat));
  const paint = () => fill(svg, { space, paths, names, nearest, flat, visit });
  paint();
  if (!flat) turnable(svg, paint);
  into.append(svg, told(names, nearest, paths, space));
  if (had && !flat) svg.focus();
}

function fill(svg, { space, paths, names, nearest, flat, visit }) {
  const { roles } = space;
  const centre = space.default.map(() => 0);
  const at = projection([...roles.map((role) => role.at), space.default, ...paths.flat().map((one) => one.at), centre], flat);
  svg.replaceChildren();
  const labels = axes(svg, space, at, flat);
  const deepFirst = roles.map((role) => ({ role, seen: at(role.at) })).sort((a, b) => a.seen[2] - b.seen[2]);
  for (const { role, seen: [x, y, deep] } of deepFirst) {
    const dot = draw("circle", { class: `role ${tint(role.position).replace("t", "f")}`, cx: x, cy: y, r: 3.2 + deep * 1.2 });
    dot.append(draw("title", {}, `${role.name}: position ${signed(role.position)}`));
    svg.append(dot);
  }
  const [x, y] = at(space.default);
  svg.append(draw("path", { class: "default", d: `M${x} ${y - 7}L${x + 7} ${y}L${x} ${y + 7}L${x - 7} ${y}Z` }));
  labels.unshift({ text: "default Assistant", x, y: y - 10, name: "strong" });
  paths.forEach((line, column) => {
    const seen = line.map((one) => at(one.at));
    svg.append(polyline(seen, `line c${column}`));
    seen.forEach(([px, py], number) => {
      const last = number === seen.length - 1;
      const shape = mark(column, px, py, last ? 6 : 3.6);
      const label = `${names[column]}, turn ${line[number].turn + 1}`;
      shape.append(draw("title", {}, label));
      shape.addEventListener("click", () => visit(line[number].turn, column));
      svg.append(shape);
      if (last) labels.push({ text: `turn ${line[number].turn + 1}`, x: px, y: py + 17, name: `l${column} strong` });
    });
  });
  const shown = new Set(nearest.flatMap((near) => near.roles.slice(0, NAMED).map((one) => one.name)));
  const extremes = [...roles].filter((role) => Number.isFinite(role.position)).sort((a, b) => a.position - b.position);
  for (const role of [...extremes.slice(0, 2), ...extremes.slice(-2)]) shown.add(role.name);
  for (const role of roles) {
    if (!shown.has(role.name)) continue;
    const [rx, ry] = at(role.at);
    labels.push({ text: role.name.replaceAll("_", " "), x: rx, y: ry - 6, name: "" });
  }
  write(svg, labels);
}

/** Draw the components' directions, and the axis toward the Assistant; return the directions' labels. */
function axes(svg, space, at, flat) {
  const names = space.variance.map((share, number) =>
    `PC${number + 1}${Number.isFinite(share) ? ` (${(share * 100).toFixed(0)}%)` : ""}`);
  if (flat) {
    svg.append(draw("text", { x: WIDTH - 4, y: HEIGHT - 4, "text-anchor": "end" }, `${names[0] ?? "PC1"} →`));
    svg.append(draw("text", { x: 4, y: 12 }, `↑ ${names[1] ?? "PC2"}`));
  }
  const far = Math.max(...space.roles.map((role) => Math.hypot(...role.at)), 1e-9);
  const [ox, oy] = at(space.default.map(() => 0));
  const labels = [];
  if (!flat) names.forEach((text, number) => {
    const [x, y] = at(space.default.map((_, index) => (index === number ? far : 0)));
    svg.append(draw("line", { class: "unit", x1: ox, y1: oy, x2: x, y2: y }));
    labels.push({ text, x, y, name: "" });
  });
  const length = Math.hypot(...space.axis) || 1;
  const [x, y] = at(space.axis.map((one) => (one / length) * far * 0.9));
  const [bx, by] = at(space.axis.map((one) => (-one / length) * far * 0.9));
  svg.append(draw("line", { class: "axis", x1: bx, y1: by, x2: x, y2: y }));
  return labels;
}

/** Write labels, of which a later one that would lie on an earlier one is moved or left out. */
function write(svg, labels) {
  const taken = [];
  for (const { text, x, y, name } of labels) {
    const half = text.length * 2.9 + 2;
    const cx = Math.max(half, Math.min(WIDTH - half, x));
    const spots = [y, y + 16, y - 12, y + 26].map((one) => Math.max(10, Math.min(HEIGHT - 4, one)));
    const free = spots.find((spot) => !taken.some((one) => Math.abs(one.x - cx) < one.half + half && Math.abs(one.y - spot) < 11));
    if (free === undefined) continue;
    taken.push({ x: cx, y: free, half });
    svg.append(draw("text", { class: `on ${name}`, x: cx, y: free, "text-anchor": "middle" }, text));
  }
}

/** Turn the space with the pointer and the arrow keys. */
function turnable(svg, paint) {
  svg.setAttribute("tabindex", "0");
  let from = null;
  svg.addEventListener("pointerdown", (event) => {
    from = [event.clientX, event.clientY];
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!from) return;
    view.yaw += (event.clientX - from[0]) * 0.01;
    view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch + (event.clientY - from[1]) * 0.01));
    from = [event.clientX, event.clientY];
    paint();
  });
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, () => { from = null; });
  svg.addEventListener("keydown", (event) => {
    const [yaw, pitch] = {
      ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15],
    }[event.key] ?? [0, 0];
    if (!yaw && !pitch) return;
    event.preventDefault();
    view.yaw += yaw;
    view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch + pitch));
    paint();
  });
}

/** Return the nearest roles and traits of a column's newest reply that has some. */
function newest(talk, column) {
  for (let number = talk.turns.length - 1; number >= 0; number -= 1) {
    const { nearest } = talk.turns[number].replies[column];
    if (nearest) return { ...nearest, turn: number };
  }
  return { roles: [], traits: [], turn: -1 };
}

const list = (found) => found.slice(0, NAMED).map((one) => `${one.name.replaceAll("_", " ")} ${one.cosine.toFixed(2)}`).join(", ");

function told(names, nearest, paths, space) {
  const node = make("div", "near");
  nearest.forEach((near, column) => {
    const line = make("p", `fine who col${column}`);
    if (near.turn < 0) line.append(`${names[column]}: ${paths[column].length ? "no nearest role known" : "no reply yet"}`);
    else {
      line.append(`${names[column]}, turn ${near.turn + 1}: nearest roles ${list(near.roles)}`);
      if (near.traits.length) line.append(`; traits ${list(near.traits)}`);
    }
    node.append(line);
  });
  const share = space.variance.filter(Number.isFinite).reduce((sum, one) => sum + one, 0);
  const drawn = share > 0 ? ` The drawn components hold ${(share * 100).toFixed(0)}% of the roles' variance.` : "";
  const traits = space.traits.length ? "" : " The map has no trait vectors.";
  node.append(make("p", "fine", `Dots are roles at layer ${space.layer}, tinted by their position; the dashed line is the axis. Nearness is a cosine in all dimensions.${drawn}${traits}`));
  return node;
}

function describe(names, nearest, paths, flat) {
  const parts = names.map((name, column) => {
    const near = nearest[column];
    if (near.turn < 0) return `${name}: ${paths[column].length} replies`;
    return `${name}: ${paths[column].length} replies, the last nearest to ${list(near.roles)}`;
  });
  return `Persona space, ${flat ? "flat" : "turned by the arrow keys"}. ${parts.join(". ")}.`;
}
