// Drawing in SVG, shared by the three panels.

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element with attributes and a text. */
export function draw(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

/** Return a position after the plan, or before it where that is asked for and known. */
export function place(one, before) {
  return before && Number.isFinite(one.before) ? one.before : one.position;
}

export function polyline(points, name) {
  const corners = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`);
  return draw("polyline", { class: name, points: corners.join(" ") });
}

/** Draw the mark of a column: a circle on the left, a square on the right. */
export function mark(column, x, y, size, attributes = {}) {
  return column === 0
    ? draw("circle", { r: size, cx: x, cy: y, class: "p0", ...attributes })
    : draw("rect", { width: size * 1.9, height: size * 1.9, x: x - size * 0.95, y: y - size * 0.95, class: "p1", ...attributes });
}

/** Make an SVG element act as a button. */
export function pressable(shape, label, act) {
  shape.setAttribute("tabindex", "0");
  shape.setAttribute("role", "button");
  shape.setAttribute("aria-label", label);
  shape.append(draw("title", {}, label));
  shape.addEventListener("click", act);
  shape.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act();
  });
  return shape;
}

/** Return steps of 1, 2 or 5 that divide a range into about `count` parts. */
export function ticks(low, high, count = 4) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at += 1) found.push(at * step);
  return found;
}

/** Write a tick without digits that say nothing. */
export function tick(value) {
  return String(Number(value.toPrecision(6))).replace("-", "−");
}

/** Write words on a level, above or below it, at whichever of six places the lines leave most room. */
export function writeLevel(text, y, [left, right], lines) {
  const width = text.length * 5.4;
  const room = ([from, base]) => {
    let least = Infinity;
    for (const line of lines) for (let at = 1; at <= line.length; at += 1) {
      const [[ax, ay], [bx, by]] = [line[at - 1], line[at] ?? line[at - 1]];
      for (let part = 0; part <= 12; part += 1) {
        const x = ax + ((bx - ax) * part) / 12;
        if (x > from - 8 && x < from + width + 8) least = Math.min(least, Math.abs(ay + ((by - ay) * part) / 12 - base + 4));
      }
    }
    return Math.min(least, 16);
  };
  const places = [y - 3, y + 11].flatMap((base) => [left + 3, (left + right - width) / 2, right - width - 3].map((x) => [x, base]));
  const best = places.reduce((one, other) => (room(other) > room(one) ? other : one));
  return draw("text", { class: "on", x: best[0], y: best[1] }, text);
}
