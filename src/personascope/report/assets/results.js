"use strict";
// What the run measured besides its map: evaluations, the calibration sweeps, conversations, the monitor.
const CONTROLS = ["isotropic", "shuffled", "role_span", "control"];
const paintOf = (kind) => (kind === "plain" ? theme.ink : CONTROLS.includes(kind) ? theme.middle : theme.assistant);
const shares = (r, sign) => (r.low === null || r.high === null ? 0 : sign * ((sign > 0 ? r.high : r.low) - r.estimate));
const errors = (list) => ({ type: "data", symmetric: false, array: list.map((r) => shares(r, 1)), arrayminus: list.map((r) => shares(r, -1)), thickness: 1.5, width: 3 });
const redraw = [];

function card(id, name, lead) {
  const box = make("section", "card"), row = make("div", "row");
  box.id = id;
  row.append(make("h2", "", name));
  box.append(row);
  if (lead) box.append(make("p", "lead", lead));
  return [box, row];
}

function choice(label, options, change) {
  const box = make("label", "choice"), node = make("select", "button");
  box.append(make("span", "hidden", label), node);
  for (const text of options) node.append(make("option", "", text));
  node.addEventListener("change", () => change(node.value));
  return box;
}

function folded(words, node) {
  const box = make("details"), head = make("summary", "", words);
  box.append(head, node);
  return box;
}

function evaluation(one, index) {
  const [box, row] = card(`evaluation-${index}`, `Evaluation: ${title(one.name)}`, "Share of the trials under each condition, with 95% intervals. Grey points are control directions; a change is called an effect only if it lies beyond all of them.");
  const measures = [...new Set(one.rows.map((r) => r.measure))];
  let measure = measures[0];
  const plot = make("div", "plot"), caveat = make("p", "caption"), numbers = make("div");
  const draw = () => {
    const rows = one.rows.filter((r) => r.measure === measure).reverse();
    plot.style.height = `${90 + 24 * rows.length}px`;
    const names = rows.map((r) => (r.condition.length > 34 ? `${r.condition.slice(0, 33)}…` : r.condition));
    Plotly.react(plot, [{
      type: "scatter", mode: "markers", x: rows.map((r) => r.share.estimate), y: rows.map((_, i) => i),
      error_x: { ...errors(rows.map((r) => r.share)), color: theme.soft },
      marker: { size: 10, color: rows.map((r) => paintOf(r.kind)) }, cliponaxis: false,
      text: rows.map((r) => `<b>${plain(r.condition)}</b><br>${range(r.share, percent)}, n = ${r.share.n}` + (r.change ? `<br>against no plan ${range(r.change, percent)}` : "") + (r.conclusion ? `<br>${plain(r.conclusion)}` : "")),
      hovertemplate: "%{text}<extra></extra>",
    }], layout({
      showlegend: false, hovermode: "closest", xaxis: flat({ tickformat: ".0%", title: { text: plain(title(measure)) }, rangemode: "tozero" }),
      yaxis: flat({ tickmode: "array", tickvals: rows.map((_, i) => i), ticktext: names.map(plain), range: [-0.7, rows.length - 0.3], zeroline: false }),
    }), config);
    caveat.textContent = one.caveats[measure] || "";
    numbers.replaceChildren(table(
      ["condition", title(measure), "n", "against no plan", "conclusion"],
      one.rows.filter((r) => r.measure === measure).map((r) => [r.condition, range(r.share, percent), count(r.share.n), r.change ? range(r.change, percent) : "", r.conclusion]),
    ));
  };
  if (measures.length > 1) row.append(choice("Measure", measures.map(title), (value) => { measure = measures.find((m) => title(m) === value); draw(); }));
  saveButtons(row, one.name, () => [
    ["condition", "kind", "measure", "share", "low", "high", "n", "change", "change low", "change high", "conclusion"],
    ...one.rows.map((r) => [r.condition, r.kind, r.measure, r.share.estimate, r.share.low, r.share.high, r.share.n, r.change?.estimate, r.change?.low, r.change?.high, r.conclusion]),
  ], () => plot);
  box.append(plot, caveat, folded("Numbers", numbers), folded("Notes", notes(one.notes)));
  if (!one.notes.length) box.lastChild.remove();
  redraw.push(draw);
  return box;
}

function notes(texts) {
  const list = make("ul", "notes");
  for (const text of texts) list.append(make("li", "", text));
  return list;
}

function sweep(found) {
  const [box, row] = card("sweep", "Calibration of caps", "Changes from no plan: up is better (more answers as the Assistant, less harm), left loses capability.");
  box.append(make("p", "", found.recommended ? `Recommended: ${found.recommended}. ${found.why}` : `No cap is recommended: ${found.why}`));
  const plot = make("div", "plot");
  const head = ["cap", "Assistant share", "harmful share", "accuracy", "incoherent", "fired on"];
  saveButtons(row, "calibration", () => [
    ["cap", "control", "benefit", ...["assistant", "harmful", "capability"].flatMap((n) => [n, `${n} low`, `${n} high`]), "incoherent", "fired on", "recommended"],
    ...found.cells.map((c) => [c.condition, c.control, c.benefit, ...[c.assistant, c.harmful, c.capability].flatMap((r) => [r.estimate, r.low, r.high]), c.incoherent, c.firing, c.condition === found.recommended ? "yes" : ""]),
  ], () => plot);
  const lines = found.cells.map((c) => [c.condition, range(c.assistant, percent), range(c.harmful, percent), range(c.capability, percent), percent(c.incoherent), percent(c.firing)]);
  box.append(plot, folded("Numbers", table(head, lines)));
  for (const text of found.notes) box.append(make("p", "caption", text));
  redraw.push(() => {
    const group = (name, cells, marker) => ({
      type: "scatter", mode: "markers", name, x: cells.map((c) => c.capability.estimate), y: cells.map((c) => c.benefit), marker,
      text: cells.map((c) => `<b>${plain(c.condition)}</b><br>Assistant ${percent(c.assistant.estimate)}, harm ${percent(c.harmful.estimate)}, accuracy ${percent(c.capability.estimate)}`), hovertemplate: "%{text}<extra></extra>",
    });
    const caps = found.cells.filter((c) => !c.control && c.condition !== found.recommended);
    Plotly.react(plot, [
      group("controls", found.cells.filter((c) => c.control), { size: 8, color: theme.middle }),
      group("caps on the axis", caps, { size: 10, color: theme.assistant }),
      group("recommended", found.cells.filter((c) => c.condition === found.recommended), { size: 16, symbol: "star", color: theme.role }),
    ].filter((t) => t.x.length), layout({
      hovermode: "closest", xaxis: flat({ tickformat: "+.1%", title: { text: "change of accuracy" } }), yaxis: flat({ tickformat: "+.0%", title: { text: "gain" } }),
    }), config);
  });
  return box;
}

const LINES = ["assistant", "role", "good", "soft", "ink"];
const DASHES = ["solid", "dash", "dot"];
function steering(found) {
  const sign = found.away ? "less of the Assistant" : "more answers as the Assistant, less harm";
  const [box, row] = card("steering", "Calibration of steering", `Above, the effect of each dose at each layer; below, what the effect costs. Changes from no plan: up is more of what is wanted (${sign}), right is further from the model's own answers.`);
  box.append(make("p", "", found.recommended ? `Recommended: ${found.recommended}. ${found.why}` : `No steering is recommended: ${found.why}`));
  const plot = make("div", "plot"), doses = found.cells.some((c) => c.strength !== null);
  const kl = (c) => (c.kl ? c.kl.estimate : null), nats = (c) => (c.kl ? range(c.kl, (x) => show(x, 3)) : "–");
  const dose = (c) => (c.strength === null ? "" : c.strength), at = (c) => (c.layer === null ? "" : c.layer);
  saveButtons(row, "calibration_steering", () => [
    ["plan", "control", "layer", "strength", "benefit", ...["assistant", "harmful", "capability", "kl"].flatMap((n) => [n, `${n} low`, `${n} high`]), "incoherent", "front", "recommended"],
    ...found.cells.map((c) => [c.condition, c.control, at(c), dose(c), c.benefit, ...[c.assistant, c.harmful, c.capability, c.kl].flatMap((r) => [r?.estimate, r?.low, r?.high]), c.incoherent, c.front ? "yes" : "", c.condition === found.recommended ? "yes" : ""]),
  ], () => plot);
  const head = ["plan", "gain", "KL, nats a token", "Assistant share", "harmful share", "accuracy", "incoherent", "front"];
  const lines = (cells) => cells.map((c) => [c.condition, percent(c.benefit), nats(c), range(c.assistant, percent), range(c.harmful, percent), range(c.capability, percent), percent(c.incoherent), c.front ? "yes" : ""]);
  box.append(plot, folded("Numbers", table(head, lines(found.cells.filter((c) => !c.control)))), folded("Controls", table(head.slice(0, -1), lines(found.cells.filter((c) => c.control)).map((l) => l.slice(0, -1)))));
  for (const text of found.notes) box.append(make("p", "caption", text));
  const about = (c) => `<b>${plain(c.condition)}</b><br>gain ${percent(c.benefit)}, KL ${nats(c)} nats<br>Assistant ${percent(c.assistant.estimate)}, harm ${percent(c.harmful.estimate)}, accuracy ${percent(c.capability.estimate)}`;
  redraw.push(() => {
    plot.style.height = doses ? "620px" : "340px";
    const trace = (name, cells, x, axes, extra) => ({ type: "scatter", name, x: cells.map(x), y: cells.map((c) => c.benefit), text: cells.map(about), hovertemplate: "%{text}<extra></extra>", ...axes, ...extra });
    const own = found.cells.filter((c) => !c.control), controls = found.cells.filter((c) => c.control), best = own.filter((c) => c.condition === found.recommended);
    const layers = [...new Set(own.map((c) => c.layer))], size = (c) => Math.abs(c.strength), price = { xaxis: "x", yaxis: "y" }, dosed = { xaxis: "x2", yaxis: "y2", showlegend: false };
    const line = (i) => ({ color: theme[LINES[i % LINES.length]], width: 2, dash: DASHES[Math.floor(i / LINES.length) % DASHES.length] });
    const grey = { mode: "markers", marker: { size: 7, color: theme.soft, symbol: "circle-open" } }, star = { mode: "markers", marker: { size: 17, symbol: "star", color: theme.role, line: { color: theme.card, width: 1 } } };
    const of = (layer) => own.filter((c) => c.layer === layer).sort((one, other) => size(one) - size(other));
    const front = own.filter((c) => c.front).sort((one, other) => kl(one) - kl(other));
    const traces = [trace("controls", controls, kl, price, grey), ...layers.map((layer, i) => trace(layer === null ? "axis" : `layer ${layer}`, of(layer), kl, price, { mode: "markers", marker: { size: 10, color: line(i).color } })),
      trace("Pareto front", front, kl, price, { mode: "lines", line: { color: theme.soft, width: 1, dash: "dot" } }), trace("recommended", best, kl, price, star)];
    if (doses) traces.push(trace("controls", controls, size, dosed, grey), ...layers.map((layer, i) => trace("", of(layer), size, dosed, { mode: "lines+markers", line: line(i), marker: { size: 8 } })), trace("recommended", best, size, dosed, star));
    const gain = (domain) => flat({ domain, tickformat: "+.0%", title: { text: "gain" } });
    Plotly.react(plot, traces.filter((t) => t.x.length), layout({
      hovermode: "closest", xaxis: flat({ title: { text: "KL from no plan, nats a token" }, rangemode: "tozero" }), yaxis: gain(doses ? [0, 0.4] : [0, 1]),
      ...(doses ? { xaxis2: flat({ anchor: "y2", title: { text: found.away ? "strength away from the Assistant" : "strength toward the Assistant" }, rangemode: "tozero" }), yaxis2: gain([0.58, 1]) } : {}),
    }), config);
  });
  return box;
}

function talks(one, index) {
  const [box, row] = card(`talks-${index}`, `Conversations: ${title(one.name)}`, `Mean position of the replies by turn at layer ${one.layer} (0 is the mean role, 1 the default Assistant), with 95% intervals over topics.`);
  const plot = make("div", "plot");
  saveButtons(row, one.name, () => [
    ["domain", "conversations", "turn", "position", "low", "high"],
    ...one.domains.flatMap((d) => d.turns.map((turn, i) => [d.domain, d.n, turn + 1, d.positions[i].estimate, d.positions[i].low, d.positions[i].high])),
  ], () => plot);
  box.append(plot, folded("Numbers", table(["domain", "conversations", "first reply", "last reply", "change"], one.domains.map((d) => [d.domain, count(d.n), d.positions.length ? range(d.positions[0]) : "–", d.positions.length ? range(d.positions.at(-1)) : "–", range(d.change)]))));
  for (const text of one.notes) box.append(make("p", "caption", text));
  redraw.push(() => Plotly.react(plot, one.domains.map((d, i) => ({
    type: "scatter", mode: "lines+markers", name: plain(title(d.domain)), x: d.turns.map((t) => t + 1), y: d.positions.map((p) => p.estimate),
    error_y: { ...errors(d.positions), color: theme[LINES[i % LINES.length]] },
    line: { color: theme[LINES[i % LINES.length]], width: 2, dash: DASHES[Math.floor(i / LINES.length) % DASHES.length] },
    hovertemplate: "%{y:.2f} at turn %{x}",
  })), layout({ hovermode: "x", xaxis: flat({ title: { text: "turn" }, dtick: Math.max(1, Math.ceil(Math.max(0, ...one.domains.flatMap((d) => d.turns)) / 10)), showgrid: false }), yaxis: flat({ title: { text: "position" } }) }), config));
  return box;
}

function monitor(rules) {
  const [box, row] = card("monitor", "Drift monitor", "Share of conversations in which each rule raises an alarm, with 95% intervals.");
  saveButtons(row, "monitor", () => [["rule", "conversations", "alarms", "low", "high", "n"], ...rules.map((r) => [r.rule, r.of, r.alarms.estimate, r.alarms.low, r.alarms.high, r.alarms.n])]);
  box.append(table(["rule", "conversations", "alarms", "n"], rules.map((r) => [r.rule, title(r.of), range(r.alarms, percent), count(r.alarms.n)])));
  return box;
}

function addResults(host) {
  data.evaluations.forEach((one, i) => host.append(evaluation(one, i)));
  if (data.sweep) host.append(sweep(data.sweep));
  if (data.steering) host.append(steering(data.steering));
  data.talks.forEach((one, i) => host.append(talks(one, i)));
  if (data.monitor.length) host.append(monitor(data.monitor));
}
const drawResults = () => redraw.forEach((draw) => draw());
