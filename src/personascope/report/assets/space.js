"use strict";
// Figures of the space: the roles in three components, the variance of the components, the cosine by layer.
function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
}
const solid = hasWebGL();
const config3d = {
  displaylogo: false, responsive: true,
  modeBarButtons: solid ? [["toImage", "zoom3d", "pan3d", "orbitRotation", "resetCameraDefault3d"]] : [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};

function hover(role) {
  const counts = Object.entries(role.counts).map(([k, n]) => `${plain(k)}: ${count(n)}`).join(", ");
  const lines = [`<b>${plain(title(role.name))}</b>`];
  if (role.group) lines.push(plain(title(role.group)));
  lines.push(placeOf(role));
  if (counts) lines.push(counts);
  return lines.join("<br>");
}

function drawSpace(pick) {
  const every = placed.filter((r) => is(r.place));
  const roles = every.filter(matches);
  const at = (list, i) => list.map((r) => r.place[i]);
  const points = [...every, ...(is(fallback.place) ? [fallback] : [])];
  const reach = Math.max(...points.map((r) => Math.hypot(...r.place)), 1e-9) * 0.75;
  const long = Math.max(Math.hypot(...view.axis), 1e-9);
  const tip = view.axis.map((x) => (x / long) * reach);
  const narrow = byId("space").clientWidth < 640;
  const away = narrow ? 2.1 : 1.25;
  const kind = solid ? "scatter3d" : "scatter";
  const size = solid ? 5 : 8;
  const place = (list) => ({ x: at(list, 0), y: at(list, 1), ...(solid ? { z: at(list, 2) } : {}) });
  const line = { x: [-tip[0], tip[0]], y: [-tip[1], tip[1]], ...(solid ? { z: [-tip[2], tip[2]] } : {}) };
  const traces = [
    {
      type: kind, mode: "markers", name: "role", showlegend: false, ...place(roles),
      text: roles.map(hover), hovertemplate: "%{text}<extra></extra>", customdata: roles.map((r) => r.name),
      marker: {
        size, opacity: 0.92, color: roles.map((r) => r.at), colorscale: scaleColours(), cmin: mid - half, cmax: mid + half,
        line: { width: 0.5, color: theme.card },
        colorbar: { ...(narrow ? { orientation: "h", y: 1, yanchor: "top", len: 0.8, title: { text: unit(), side: "top" } } : { title: { text: `${unit()} on the axis`, side: "right" }, len: 0.55 }), thickness: 10, outlinewidth: 0, tickfont: { color: theme.soft } },
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
  if (is(fallback.place)) {
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
  // On a phone the ticks' numbers push the names of the axes out of the window.
  const axis = (name) => ({ title: { text: name }, color: theme.soft, gridcolor: theme.line, zerolinecolor: theme.middle, showbackground: false, showticklabels: !narrow });
  const shape = solid
    ? { scene: { xaxis: axis("PC1"), yaxis: axis("PC2"), zaxis: axis("PC3"), aspectmode: "data", camera: { center: { x: 0, y: 0, z: -0.12 }, eye: { x: 0.3 * away, y: -1.45 * away, z: 0.5 * away } } }, margin: { l: 0, r: 0, t: 0, b: 0 } }
    : { xaxis: flat({ title: { text: "PC1" } }), yaxis: flat({ title: { text: "PC2" }, scaleanchor: "x" }) };
  const node = byId("space");
  Plotly.react(node, traces, layout({ ...shape, uirevision: `keep ${view.layer}`, hovermode: "closest", modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.soft, activecolor: theme.ink }, legend: { x: 0, y: 0, font: { color: theme.soft } } }), config3d);
  const share = Math.round(Math.min(1, long) * 100);
  byId("space-note").textContent =
    `Layer ${view.layer}. The line is the axis, pointing to the Assistant; its shadow in these three components has ${share}% of its length.` +
    (filtered() ? ` ${roles.length} of ${every.length} roles are shown.` : "") +
    (solid ? "" : " This browser has no WebGL, so PC1 and PC2 are shown without PC3.");
  if (!node.dataset.bound) {
    node.dataset.bound = "1";
    node.on("plotly_click", (event) => {
      const name = event.points[0]?.customdata;
      if (known.has(name)) pick(name);
    });
  }
}

function drawVariance() {
  const shown = view.variance.slice(0, 20);
  let sum = 0;
  const all = view.variance.map((v) => (sum += v));
  const needed = all.findIndex((v) => v >= 0.7) + 1;
  byId("variance-lead").textContent = needed
    ? `${needed} component${needed > 1 ? "s hold" : " holds"} 70% of the variance between roles at layer ${view.layer}.`
    : `The ${all.length} components that are shown hold less than 70% of the variance between roles at layer ${view.layer}.`;
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
    traces.push({ type: "scatter", mode: "lines", name: "95% interval", x, y: c.high, line: { width: 0 }, fill: "tonexty", fillcolor: faint(theme.assistant, 0.2), hoverinfo: "skip" });
  }
  traces.push({ type: "scatter", mode: "lines", name: "cos(axis, PC1)", x, y: c.cosine, line: { color: theme.assistant, width: 2.5 }, hovertemplate: "%{y:.2f}" });
  if (c.null.length) traces.push({ type: "scatter", mode: "lines", name: "null, 95% quantile", x, y: c.null, line: { color: theme.role, width: 2, dash: "dash" }, hovertemplate: "%{y:.2f}" });
  if (c.split_half.length) traces.push({ type: "scatter", mode: "lines", name: "split half", x, y: c.split_half, line: { color: theme.good, width: 2, dash: "dot" }, hovertemplate: "%{y:.2f}" });
  const seen = [c.cosine, c.low, c.null, c.split_half].flat().filter(is);
  const mark = (layer, dash) => ({ type: "line", x0: layer, x1: layer, y0: 0, y1: 1, yref: "paper", line: { color: theme.soft, width: 1, dash } });
  Plotly.react(byId("layers"), traces, layout({
    hovermode: "x unified", xaxis: flat({ title: { text: "layer" }, showgrid: false, rangemode: "tozero" }),
    yaxis: flat({ title: { text: "cosine" }, range: [Math.min(0, ...seen) - (Math.min(0, ...seen) < 0 ? 0.05 : 0), 1.02] }),
    shapes: [mark(data.middle_layer, "dot"), ...(view.layer === data.middle_layer ? [] : [mark(view.layer, "solid")])],
    annotations: [{ x: data.middle_layer, y: 0, yref: "paper", yanchor: "bottom", xanchor: "left", xshift: 4, showarrow: false, text: "middle layer", font: { size: 11, color: theme.soft } }],
  }), config);
}

function layerRows() {
  const c = data.curves;
  return [["layer", "cos(axis, PC1)", "low", "high", "null q95", "split half"], ...c.cosine.map((value, i) => [i, value, c.low[i], c.high[i], c.null[i], c.split_half[i]])];
}
const varianceRows = () => [["component", `share of the variance at layer ${view.layer}`], ...view.variance.map((value, i) => [i + 1, value])];
