"use strict";
// Rankings along the axis: of the roles, at the layer in view, and of the traits.
let expanded = false;

function ticks(host, low, high, at) {
  host.replaceChildren();
  const wide = (high - low) / 5, power = 10 ** Math.floor(Math.log10(wide));
  const step = [1, 2, 5, 10].find((m) => m * power >= wide) * power;
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
    const label = make("span", "", show(Math.abs(tick) < step / 1e6 ? 0 : tick, Math.max(0, -Math.floor(Math.log10(step)))));
    label.style.left = at(tick);
    host.append(label);
  }
}

function bar(from, to, at, paint) {
  const node = make("i");
  node.style.left = at(from);
  node.style.right = `${100 - parseFloat(at(to))}%`;
  node.style.background = paint;
  return node;
}

function dot(value, at, paint) {
  const node = make("b");
  node.style.left = at(value);
  node.style.background = paint;
  return node;
}

function drawRanking(pick) {
  const list = byId("ranking");
  list.replaceChildren();
  byId("scale").replaceChildren();
  const unplaced = data.roles.filter((r) => !is(r.projection)).map((r) => title(r.name));
  byId("unplaced").textContent = unplaced.length ? `Too few responses in the role for a vector: ${unplaced.join(", ")}.` : "";
  const roles = placed.filter(matches);
  const rows = is(fallback.at) ? [...roles, fallback].sort((a, b) => b.at - a.at) : roles;
  if (!rows.length) return;
  const all = is(fallback.at) ? [...placed, fallback] : placed;
  let low = Math.min(...all.map((r) => (is(r.from) ? r.from : r.at)));
  let high = Math.max(...all.map((r) => (is(r.to) ? r.to : r.at)));
  const pad = (high - low || 1) * 0.03;
  low -= pad;
  high += pad;
  const at = (value) => `${(((value - low) / (high - low)) * 100).toFixed(3)}%`;
  ticks(byId("scale"), low, high, at);
  const short = roles.length > 2 * END + 5;
  byId("expand").hidden = !short;
  byId("expand").textContent = expanded ? `Show ${END} at each end` : `Show all ${roles.length}`;
  byId("ranking-lead").textContent =
    (hasUnits() ? "Position of each role vector on the axis (0 is the mean role, 1 the default Assistant)" : "Projection of each role vector on the axis") +
    ` at layer ${view.layer}, most Assistant-like first` +
    (view.layer === data.middle_layer ? ", with 95% intervals." : `. Intervals are computed at the middle layer, ${data.middle_layer}.`) +
    (filtered() ? ` ${roles.length} of ${placed.length} roles.` : "") + (short && !expanded ? ` The ${END} at each end.` : "");
  let order = 0, hidden = 0;
  const gap = () => {
    if (hidden) list.append(make("li", "gap", `${hidden} more between these`));
    hidden = 0;
  };
  for (const role of rows) {
    const own = role === fallback;
    order += own ? 0 : 1;
    // The default stands in its place and is none of the roles at an end.
    if (!own && short && !expanded && order > END && order <= roles.length - END) {
      hidden += 1;
      continue;
    }
    gap();
    const item = make("li", own ? "default" : "");
    const button = make("button", "entry");
    button.type = "button";
    button.dataset.name = role.name;
    const who = make("span", "who");
    who.append(make("span", "rank", own ? "" : rank.get(role.name)), make("span", "name", own ? "default Assistant" : title(role.name)), make("span", "at", show(role.at)));
    const track = make("span", "track");
    if (is(fallback.at) && !own) {
      const mark = make("u");
      mark.style.left = at(fallback.at);
      track.append(mark);
    }
    const paint = colour(role.at);
    if (is(role.from) && is(role.to)) track.append(bar(role.from, role.to, at, paint));
    track.append(dot(role.at, at, paint));
    button.title = `${title(role.name)}: ${placeOf(role)}`;
    button.append(who, track);
    button.addEventListener("click", () => pick(role.name));
    item.append(button);
    list.append(item);
  }
  gap();
}

function rankingRows() {
  const head = ["rank", "role", "group", "layer", "position", "low", "high", "raw projection", "responses"];
  return [head, ...placed.map((r) => [
    rank.get(r.name), r.name, r.group, view.layer, hasUnits() ? r.at : null, hasUnits() ? r.from : null, hasUnits() ? r.to : null, r.raw,
    Object.values(r.counts).reduce((a, b) => a + b, 0),
  ])];
}

function drawTraits() {
  byId("traits-card").hidden = !data.traits.length;
  const list = byId("traits");
  list.replaceChildren();
  byId("traits-scale").replaceChildren();
  byId("traits-notes").replaceChildren(...data.traits_notes.map((text) => make("p", "caption", text)));
  if (!data.traits.length) return;
  const at = (value) => `${(((value + 1) / 2) * 100).toFixed(3)}%`;
  ticks(byId("traits-scale"), -1, 1, at);
  const short = data.traits.length > 2 * END + 5;
  byId("traits-lead").textContent =
    `Cosine of each trait vector with the axis at layer ${data.middle_layer}, toward the Assistant first, with 95% intervals.` +
    (short ? ` The ${END} at each end of ${data.traits.length}.` : "");
  data.traits.forEach((trait, i) => {
    if (short && i >= END && i < data.traits.length - END) {
      if (i === END) list.append(make("li", "gap", `${data.traits.length - 2 * END} more between these`));
      return;
    }
    const item = make("li"), row = make("div", "entry still"), who = make("span", "who");
    who.append(make("span", "rank", String(i + 1)), make("span", "name", title(trait.name)), make("span", "at", show(trait.cosine)));
    const track = make("span", "track"), zero = make("u");
    zero.style.left = at(0);
    track.append(zero);
    const paint = trait.cosine < 0 ? theme.role : theme.assistant;
    if (is(trait.low) && is(trait.high)) track.append(bar(trait.low, trait.high, at, paint));
    track.append(dot(trait.cosine, at, paint));
    row.title = `${title(trait.name)}: ${show(trait.cosine)}` + (is(trait.low) && is(trait.high) ? ` (${show(trait.low)} to ${show(trait.high)})` : "") + (trait.note ? `; ${trait.note}` : "");
    row.append(who, track);
    item.append(row);
    list.append(item);
  });
}
const traitRows = () => [["trait", "cosine with the axis", "low", "high", "note"], ...data.traits.map((t) => [t.name, t.cosine, t.low, t.high, t.note])];
