"use strict";
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const byId = (id) => document.getElementById(id);
  const END = 30;
  const is = (x) => x !== null && x !== undefined;
  const show = (x, digits = 2) => (is(x) ? x.toFixed(digits).replace("-", "\u2212") : "\u2013");
  const count = (n) => n.toLocaleString("en");
  const title = (name) => name.replaceAll("_", " ");
  // Plotly reads a little markup in its labels.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function make(tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (is(text)) node.textContent = text;
    return node;
  }

  const placed = data.roles.filter((r) => is(r.projection)).sort((a, b) => b.projection - a.projection);
  const rank = new Map(placed.map((r, i) => [r.name, i + 1]));
  const fallback = data.default;
  const known = new Map([...data.roles, fallback].map((r) => [r.name, r]));
  const values = placed.map((r) => r.projection);
  const mid = values.length ? (Math.min(...values) + Math.max(...values)) / 2 : 0;
  const half = values.length ? Math.max((Math.max(...values) - Math.min(...values)) / 2, 1e-9) : 1;

  let theme = {};
  function readTheme() {
    const style = getComputedStyle(document.documentElement);
    for (const key of ["bg", "card", "ink", "soft", "line", "assistant", "role", "middle", "good", "hover"]) {
      theme[key] = style.getPropertyValue(`--${key}`).trim();
    }
  }
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  function colour(value) {
    const t = Math.max(-1, Math.min(1, (value - mid) / half));
    const from = rgb(theme.middle), to = rgb(t < 0 ? theme.role : theme.assistant);
    return `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * Math.abs(t))).join(",")})`;
  }
  const scaleColours = () => [[0, theme.role], [0.5, theme.middle], [1, theme.assistant]];
  function hasWebGL() {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }
  const solid = hasWebGL();
  const config = { displayModeBar: false, responsive: true };
  const config3d = {
    displaylogo: false, responsive: true,
    modeBarButtons: solid ? [["toImage", "zoom3d", "pan3d", "orbitRotation", "resetCameraDefault3d"]] : [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  function layout(extra) {
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 12, t: 10, b: 44 },
      font: { family: "system-ui, sans-serif", size: 12.5, color: theme.ink },
      hoverlabel: { bgcolor: theme.card, bordercolor: theme.line, font: { color: theme.ink, size: 13 }, align: "left" },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12, color: theme.soft } },
      ...extra,
    };
  }
  const flat = (extra) => ({ gridcolor: theme.line, zerolinecolor: theme.line, linecolor: theme.line, tickcolor: theme.line, automargin: true, ...extra });

  function facts() {
    byId("model").textContent = data.model;
    const rows = [
      ["Revision", data.revision.slice(0, 12)],
      ["Corpus", [data.corpus, data.corpus_digest.slice(0, 12)].filter(Boolean).join(" · ")],
      ["Responses", count(data.responses)],
      ["Roles", count(placed.length)],
      ["Middle layer", `${data.middle_layer} (of 0 to ${data.n_layers - 1})`],
      ["Width", count(data.d_model)],
      ["Design", data.design],
    ];
    for (const [name, value] of rows) {
      if (!value) continue;
      const row = make("div");
      row.append(make("dt", "", name), make("dd", "", value));
      byId("facts").append(row);
    }
    for (const answer of data.verdict) {
      const line = make("li");
      line.append(make("b", "", answer.question), make("span", `grade ${answer.grade.replace(" ", "-")}`, answer.grade));
      line.append(make("span", "why", answer.reasons.join("; ")));
      byId("verdict").append(line);
    }
    for (const text of data.warnings) byId("warnings").append(make("p", "warning", text));
    for (const f of data.figures) {
      const box = make("div", "figure");
      const interval = is(f.low) && is(f.high) ? `${f.interval} ${show(f.low, f.digits)} to ${show(f.high, f.digits)}` : "";
      box.append(make("div", "label", f.label), make("div", "value", show(f.value, f.digits)));
      if (interval) box.append(make("div", "interval", interval));
      box.append(make("div", "note", f.note));
      byId("figures").append(box);
    }
    for (const text of data.methods) byId("methods").append(make("li", "", text));
    for (const role of known.values()) {
      const option = make("option");
      option.value = title(role.name);
      byId("names").append(option);
    }
  }

  function hover(role) {
    const counts = Object.entries(role.counts).map(([k, n]) => `${plain(k)}: ${count(n)}`).join(", ");
    const lines = [`<b>${plain(title(role.name))}</b>`];
    if (role.group) lines.push(plain(title(role.group)));
    lines.push(`on the axis: ${show(role.projection)}`);
    if (counts) lines.push(counts);
    return lines.join("<br>");
  }

  function drawSpace() {
    const roles = placed.filter((r) => is(r.point));
    const at = (list, i) => list.map((r) => r.point[i]);
    const points = [...roles, ...(is(fallback.point) ? [fallback] : [])];
    const reach = Math.max(...points.map((r) => Math.hypot(...r.point)), 1e-9) * 0.75;
    const long = Math.max(Math.hypot(...data.axis), 1e-9);
    const tip = data.axis.map((x) => (x / long) * reach);
    const narrow = byId("space").clientWidth < 640;
    const away = narrow ? 1.85 : 1.25;
    const kind = solid ? "scatter3d" : "scatter";
    const size = solid ? 5 : 8;
    const place = (list) => ({ x: at(list, 0), y: at(list, 1), ...(solid ? { z: at(list, 2) } : {}) });
    const line = { x: [-tip[0], tip[0]], y: [-tip[1], tip[1]], ...(solid ? { z: [-tip[2], tip[2]] } : {}) };
    const traces = [
      {
        type: kind, mode: "markers", name: "role", showlegend: false, ...place(roles),
        text: roles.map(hover), hovertemplate: "%{text}<extra></extra>", customdata: roles.map((r) => r.name),
        marker: {
          size, opacity: 0.92, color: roles.map((r) => r.projection), colorscale: scaleColours(), cmin: mid - half, cmax: mid + half,
          line: { width: 0.5, color: theme.card },
          colorbar: { ...(narrow ? { orientation: "h", y: 1, yanchor: "top", len: 0.8, title: { text: "on the axis", side: "top" } } : { title: { text: "on the axis", side: "right" }, len: 0.55 }), thickness: 10, outlinewidth: 0, tickfont: { color: theme.soft } },
        },
      },
      { type: kind, mode: "lines", name: "Assistant Axis", ...line, hoverinfo: "skip", line: { color: theme.ink, width: solid ? 4 : 2 } },
    ];
    if (solid) {
      traces.push({
        type: "cone", x: [tip[0]], y: [tip[1]], z: [tip[2]], u: [tip[0]], v: [tip[1]], w: [tip[2]], anchor: "tip", hoverinfo: "skip",
        sizemode: "raw", sizeref: 0.12, showscale: false, colorscale: [[0, theme.ink], [1, theme.ink]],
      });
    }
    if (is(fallback.point)) {
      traces.push({
        type: kind, mode: "text+markers", name: "default Assistant", showlegend: false, ...place([fallback]),
        text: [solid ? "★" : "default Assistant"], textposition: solid ? "middle center" : "top center",
        textfont: { size: solid ? 34 : 13, color: theme.assistant },
        hovertext: [hover(fallback)], hovertemplate: "%{hovertext}<extra></extra>", customdata: [fallback.name],
        marker: { size: solid ? 16 : 20, opacity: solid ? 0.02 : 1, symbol: solid ? "circle" : "star", color: theme.assistant },
      });
      if (solid) {
        traces.push({
          type: kind, mode: "text", showlegend: false, ...place([fallback]), text: ["default Assistant"], hoverinfo: "skip",
          textposition: "top center", textfont: { size: 13, color: theme.ink },
        });
      }
    }
    const axis = (name) => ({ title: { text: name }, color: theme.soft, gridcolor: theme.line, zerolinecolor: theme.middle, showbackground: false });
    const shape = solid
      ? { scene: { xaxis: axis("PC1"), yaxis: axis("PC2"), zaxis: axis("PC3"), aspectmode: "data", camera: { center: { x: 0, y: 0, z: -0.12 }, eye: { x: 0.3 * away, y: -1.45 * away, z: 0.5 * away } } }, margin: { l: 0, r: 0, t: 0, b: 0 } }
      : { xaxis: flat({ title: { text: "PC1" } }), yaxis: flat({ title: { text: "PC2" }, scaleanchor: "x" }) };
    const node = byId("space");
    Plotly.react(node, traces, layout({ ...shape, uirevision: "keep", hovermode: "closest", modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.soft, activecolor: theme.ink }, legend: { x: 0, y: 0, font: { color: theme.soft } } }), config3d);
    const share = Math.round(Math.min(1, long) * 100);
    byId("space-note").textContent =
      `The line is the axis, pointing to the Assistant; its shadow in these three components has ${share}% of its length.` +
      (solid ? "" : " This browser has no WebGL, so PC1 and PC2 are shown without PC3.");
    if (!node.dataset.bound) {
      node.dataset.bound = "1";
      node.on("plotly_click", (event) => {
        const name = event.points[0]?.customdata;
        if (known.has(name)) open(name);
      });
    }
  }

  function drawVariance() {
    const shown = data.variance.slice(0, 20);
    let sum = 0;
    const all = data.variance.map((v) => (sum += v));
    const needed = all.findIndex((v) => v >= 0.7) + 1;
    byId("variance-lead").textContent = needed
      ? `${needed} component${needed > 1 ? "s hold" : " holds"} 70% of the variance between roles.`
      : "The components that were kept hold less than 70% of the variance between roles.";
    const x = shown.map((_, i) => i + 1);
    Plotly.react(byId("variance"), [
      { type: "bar", name: "component", x, y: shown, marker: { color: theme.assistant }, hovertemplate: "PC%{x}: %{y:.1%}<extra></extra>" },
      { type: "scatter", mode: "lines+markers", name: "cumulative", x, y: all.slice(0, 20), line: { color: theme.role, width: 2 }, marker: { size: 5 }, hovertemplate: "PC1 to PC%{x}: %{y:.1%}<extra></extra>" },
    ], layout({
      bargap: 0.3, xaxis: flat({ title: { text: "component" }, showgrid: false, dtick: shown.length > 12 ? 5 : 1, tick0: shown.length > 12 ? 5 : 1 }),
      yaxis: flat({ tickformat: ".0%", range: [0, 1.02], title: { text: "share of the variance" } }),
    }), config);
  }

  function drawLayers() {
    const c = data.curves;
    const x = c.cosine.map((_, i) => i);
    const traces = [];
    if (c.low.length && c.high.length) {
      traces.push({ type: "scatter", mode: "lines", x, y: c.low, line: { width: 0 }, hoverinfo: "skip", showlegend: false });
      traces.push({ type: "scatter", mode: "lines", name: "95% interval", x, y: c.high, line: { width: 0 }, fill: "tonexty", fillcolor: `rgba(${rgb(theme.assistant).join(",")},0.2)`, hoverinfo: "skip" });
    }
    traces.push({ type: "scatter", mode: "lines", name: "cos(axis, PC1)", x, y: c.cosine, line: { color: theme.assistant, width: 2.5 }, hovertemplate: "%{y:.2f}" });
    if (c.null.length) traces.push({ type: "scatter", mode: "lines", name: "null, 95% quantile", x, y: c.null, line: { color: theme.role, width: 2, dash: "dash" }, hovertemplate: "%{y:.2f}" });
    if (c.split_half.length) traces.push({ type: "scatter", mode: "lines", name: "split half", x, y: c.split_half, line: { color: theme.good, width: 2, dash: "dot" }, hovertemplate: "%{y:.2f}" });
    const seen = [c.cosine, c.low, c.null, c.split_half].flat().filter(is);
    Plotly.react(byId("layers"), traces, layout({
      hovermode: "x unified", xaxis: flat({ title: { text: "layer" }, showgrid: false, rangemode: "tozero" }),
      yaxis: flat({ title: { text: "cosine" }, range: [Math.min(0, ...seen) - (Math.min(0, ...seen) < 0 ? 0.05 : 0), 1.02] }),
      shapes: [{ type: "line", x0: data.middle_layer, x1: data.middle_layer, y0: 0, y1: 1, yref: "paper", line: { color: theme.soft, width: 1, dash: "dot" } }],
      annotations: [{ x: data.middle_layer, y: 0, yref: "paper", yanchor: "bottom", xanchor: "left", xshift: 4, showarrow: false, text: "middle layer", font: { size: 11, color: theme.soft } }],
    }), config);
  }

  let expanded = false;
  function drawRanking() {
    const rows = is(fallback.projection) ? [...placed, fallback].sort((a, b) => b.projection - a.projection) : placed;
    const list = byId("ranking");
    list.replaceChildren();
    byId("scale").replaceChildren();
    const unplaced = data.roles.filter((r) => !is(r.projection)).map((r) => title(r.name));
    byId("unplaced").textContent = unplaced.length ? `Too few responses in the role for a vector: ${unplaced.join(", ")}.` : "";
    if (!rows.length) return;
    let low = Math.min(...rows.map((r) => (is(r.low) ? r.low : r.projection)));
    let high = Math.max(...rows.map((r) => (is(r.high) ? r.high : r.projection)));
    const pad = (high - low || 1) * 0.03;
    low -= pad;
    high += pad;
    const at = (value) => `${(((value - low) / (high - low)) * 100).toFixed(3)}%`;
    const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
      const label = make("span", "", show(Math.abs(tick) < step / 1e6 ? 0 : tick, Math.max(0, -Math.floor(Math.log10(step)))));
      label.style.left = at(tick);
      byId("scale").append(label);
    }
    const short = rows.length > 2 * END + 5;
    byId("expand").hidden = !short;
    byId("expand").textContent = expanded ? `Show ${END} at each end` : `Show all ${placed.length}`;
    byId("ranking-lead").textContent =
      `Projection of each role vector on the axis at layer ${data.middle_layer}, most Assistant-like first, with 95% intervals.` +
      (short && !expanded ? ` The ${END} at each end.` : "");
    rows.forEach((role, i) => {
      if (short && !expanded && i >= END && i < rows.length - END) {
        if (i === END) list.append(make("li", "gap", `${rows.length - 2 * END} more between these`));
        return;
      }
      const own = role === fallback;
      const item = make("li", own ? "default" : "");
      const button = make("button", "entry");
      button.type = "button";
      button.dataset.name = role.name;
      const who = make("span", "who");
      who.append(make("span", "rank", own ? "" : rank.get(role.name)), make("span", "name", own ? "default Assistant" : title(role.name)));
      const track = make("span", "track");
      if (is(fallback.projection) && !own) {
        const mark = make("u");
        mark.style.left = at(fallback.projection);
        track.append(mark);
      }
      const paint = colour(role.projection);
      if (is(role.low) && is(role.high)) {
        const bar = make("i");
        bar.style.left = at(role.low);
        bar.style.right = `${100 - parseFloat(at(role.high))}%`;
        bar.style.background = paint;
        track.append(bar);
      }
      const dot = make("b");
      dot.style.left = at(role.projection);
      dot.style.background = paint;
      track.append(dot);
      button.title = `${title(role.name)}: ${show(role.projection)}` + (is(role.low) && is(role.high) ? ` (${show(role.low)} to ${show(role.high)})` : "");
      button.append(who, track);
      button.addEventListener("click", () => open(role.name));
      item.append(button);
      list.append(item);
    });
  }

  function drawTraits() {
    byId("traits-card").hidden = !data.traits.length;
    const list = byId("traits");
    list.replaceChildren();
    byId("traits-scale").replaceChildren();
    byId("traits-notes").replaceChildren(...data.traits_notes.map((text) => make("p", "caption", text)));
    if (!data.traits.length) return;
    const at = (value) => `${(((value + 1) / 2) * 100).toFixed(3)}%`;
    for (const tick of [-1, -0.5, 0, 0.5, 1]) {
      const label = make("span", "", show(tick, 1));
      label.style.left = at(tick);
      byId("traits-scale").append(label);
    }
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
      who.append(make("span", "rank", String(i + 1)), make("span", "name", title(trait.name)));
      const track = make("span", "track"), zero = make("u");
      zero.style.left = at(0);
      track.append(zero);
      if (is(trait.low) && is(trait.high)) {
        const bar = make("i");
        bar.style.left = at(trait.low);
        bar.style.right = `${100 - parseFloat(at(trait.high))}%`;
        bar.style.background = (trait.cosine < 0 ? theme.role : theme.assistant);
        track.append(bar);
      }
      const dot = make("b");
      dot.style.left = at(trait.cosine);
      dot.style.background = (trait.cosine < 0 ? theme.role : theme.assistant);
      track.append(dot);
      row.title = `${title(trait.name)}: ${show(trait.cosine)}` + (is(trait.low) && is(trait.high) ? ` (${show(trait.low)} to ${show(trait.high)})` : "") + (trait.note ? `; ${trait.note}` : "");
      row.append(who, track);
      item.append(row);
      list.append(item);
    });
  }

  const meaning = { 3: "fully in the role", 2: "somewhat in the role", 1: "answers as an AI", 0: "refuses as an AI" };
  function open(name) {
    const role = known.get(name);
    byId("panel-name").textContent = role === fallback ? "Default Assistant" : title(role.name);
    byId("panel-group").textContent = role === fallback ? "no role" : title(role.group || "role");
    byId("panel-description").textContent = role.description;
    const place = rank.get(name);
    byId("panel-place").textContent = is(role.projection)
      ? `${show(role.projection)} on the axis` + (is(role.low) && is(role.high) ? ` (95% interval ${show(role.low)} to ${show(role.high)})` : "") +
        (place ? `, ${place} of ${placed.length} from the Assistant's end.` : ".")
      : "No vector: too few responses in the role.";
    const counts = byId("panel-counts");
    counts.replaceChildren();
    const entries = Object.entries(role.counts);
    const most = Math.max(...entries.map(([, n]) => n), 1);
    for (const [label, n] of entries) {
      const bar = make("span", "bar"), fill = make("span");
      fill.style.width = `${(n / most) * 100}%`;
      bar.append(fill);
      counts.append(make("span", "", label), bar, make("span", "", count(n)));
    }
    if (!entries.length) counts.append(make("span", "caption", "Not recorded."));
    const samples = byId("panel-samples");
    samples.replaceChildren();
    for (const sample of role.samples) {
      const box = make("div", "sample");
      const text = make("p", "text", sample.text + (sample.cut ? `\u2026 (${count(sample.cut)} more characters)` : ""));
      box.append(make("p", "question", sample.question), text);
      if (is(sample.score)) box.append(make("span", "score", `score ${sample.score}: ${meaning[sample.score] || "unknown"}`));
      samples.append(box);
    }
    if (!role.samples.length) samples.append(make("p", "caption", data.samples_note || "This role has no responses."));
    for (const entry of document.querySelectorAll(".entry")) entry.classList.toggle("on", entry.dataset.name === name);
    const panel = byId("panel");
    panel.hidden = false;
    panel.scrollTop = 0;
    byId("panel-name").focus({ preventScroll: true });
    history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  }
  function close() {
    byId("panel").hidden = true;
    for (const entry of document.querySelectorAll(".entry.on")) entry.classList.remove("on");
    history.replaceState(null, "", "#");
  }
  function find(text) {
    const wanted = text.trim().toLowerCase().replaceAll(" ", "_");
    if (!wanted) return null;
    const names = [...known.keys()];
    const of = (test) => names.find((n) => test(n.toLowerCase().replaceAll(" ", "_")));
    return of((n) => n === wanted) ?? of((n) => n.startsWith(wanted)) ?? of((n) => n.includes(wanted)) ?? null;
  }

  function drawAll() {
    readTheme();
    drawRanking();
    drawTraits();
    drawLayers();
    drawVariance();
    drawSpace();
  }
  facts();
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  byId("expand").addEventListener("click", () => {
    expanded = !expanded;
    drawRanking();
  });
  byId("close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  byId("search").addEventListener("change", (event) => {
    const name = find(event.target.value);
    event.target.setCustomValidity(name || !event.target.value ? "" : "There is no such role.");
    event.target.reportValidity();
    if (name) open(name);
  });
  byId("search").addEventListener("input", (event) => event.target.setCustomValidity(""));
  const wanted = decodeURIComponent(location.hash.slice(1));
  if (known.has(wanted)) open(wanted);
  document.documentElement.dataset.ready = "1";
})();
