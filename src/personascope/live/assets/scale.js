// Numbers, the scale of the tint and its legend. A position is in units of the map: 0 the mean role, 1 the
// default Assistant. The scale diverges at 0.5, and orange and blue stay apart for every kind of colour blindness.

export const LOW = -1;
export const HIGH = 2;
const BINS = 11;

/** Return the class of a position's tint; "" without a position. */
export function tint(position) {
  if (!Number.isFinite(position)) return "";
  const share = (position - LOW) / (HIGH - LOW);
  return `t${Math.max(0, Math.min(BINS - 1, Math.floor(share * BINS)))}`;
}

/** Write a number with its sign. */
export function signed(value, digits = 2) {
  if (!Number.isFinite(value)) return "–";
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}

/** Write a percentile, of which the map knows 1 to 99. */
export function percentile(value) {
  if (!Number.isFinite(value)) return "";
  if (value <= 1) return "at or below percentile 1 of the roles";
  if (value >= 99) return "at or above percentile 99 of the roles";
  return `percentile ${value.toFixed(0)} of the roles`;
}

/** Make an element with a class and a text. */
export function make(tag, name = "", text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

/** Draw the legend. */
export function drawLegend(into, layer) {
  into.replaceChildren();
  const scale = make("div", "scale");
  const bar = make("div", "bar");
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", "Tint from orange, −1, away from the Assistant, to blue, 2, toward it");
  for (let bin = 0; bin < BINS; bin += 1) bar.append(make("i", `t${bin}`));
  const ends = make("div", "ends");
  for (const value of ["−1", "0", "1", "2"]) ends.append(make("span", "", value));
  scale.append(bar, ends);
  const words = make("div", "words");
  words.append(make("b", "", "Orange: toward the roles. Blue: toward the Assistant."));
  words.append(make("span", "", `Position at layer ${layer}: 0 is the mean role, 1 the default Assistant`));
  into.append(scale, words);
}
