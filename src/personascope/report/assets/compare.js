"use strict";
(() => {
  const data = JSON.parse(document.getElementById("payload").textContent);
  const byId = (id) => document.getElementById(id);
  const is = (x) => x !== null && x !== undefined;
  const show = (x, digits = 2) => (is(x) ? x.toFixed(digits).replace("-", "\u2212") : "\u2013");
  const percent = (x) => (is(x) ? `${show(x * 100, 0)}%` : "\u2013");
  const chance = (p) => (!is(p) ? "\u2013" : p < 0.001 ? p.toFixed(5) : p.toFixed(3));
  const words = (name) => name.replaceAll("_", " ");
  // Plotly reads a little markup in its labels.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const above = (f) => is(f.p_value) && f.p_value <= 0.05;
  const named = new Map(data.maps.map((m) => [m.label, m]));
  const at = (label) => `${label}: ${named.get(label).name}, layer ${named.get(label).layer}`;

  function make(tag, name, text) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (is(text)) node.textContent = text;
    return node;
  }
  function row(cells, name) {
    const line = make("tr", name);
    for (const cell of cells) line.append(cell instanceof Node ? cell : make("td", "", cell));
    return line;
  }
  function heading(text, width) {
    const cell = make("td", "", text);
    cell.colSpan = width;
    return row([cell], "group");
  }

  let theme = {};
  function readTheme() {
    const style = getComputedStyle(document.documentElement);
    for (const key of ["card", "ink", "soft", "line", "assistant", "role", "middle"]) theme[key] = style.getPropertyValue(`--${key}`).trim();
  }

  function maps() {
    const alike = new Set(data.maps.map((m) => m.name)).size < data.maps.length;
    byId("heading").textContent = data.maps.map((m) => (alike ? `${m.name}:${m.layer}` : m.name)).join(" and ");
    for (const text of data.notes) byId("notes").append(make("p", "warning", text));
    for (const m of data.maps) {
      const axis = make("td");
      axis.append(make("span", `grade ${m.axis.replace(" ", "-")}`, m.axis));
      byId("maps").append(row([
        make("td", "", m.label), make("td", "word", m.name), make("td", "word", m.model || "\u2013"), m.tokens,
        `${m.layer} (of 0 to ${m.n_layers - 1})`, String(m.d_model), String(m.roles), axis, percent(m.role_reliability),
      ]));
    }
    for (const text of data.methods) byId("methods").append(make("li", "", text));
  }

  let chosen = 0;
  function matrix() {
    const figure = byId("figure").value;
    const table = byId("matrix");
    table.replaceChildren();
    table.append(row([make("th"), ...data.maps.slice(1).map((m) => make("th", "", at(m.label)))]));
    data.maps.slice(0, -1).forEach((a, i) => {
      const cells = [make("th", "", at(a.label))];
      data.maps.slice(1).forEach((b, j) => {
        const place = data.pairs.findIndex((p) => p.first === a.label && p.second === b.label);
        const cell = make("td", place < 0 ? "self" : "");
        if (place >= 0 && j >= i) {
          const f = data.pairs[place].matrix[figure];
          const button = make("button", place === chosen ? "cell on" : "cell");
          button.type = "button";
          button.append(make("b", "", show(f.value)), make("span", "", `${show(f.low)} to ${show(f.high)} [${show(f.null_q95)}]`));
          const depth = above(f) ? Math.round(Math.min(1, Math.abs(f.value)) * 45) : 0;
          button.style.background = `color-mix(in srgb, ${f.value < 0 ? theme.role : theme.assistant} ${depth}%, transparent)`;
          button.addEventListener("click", () => {
            chosen = place;
            drawAll();
            byId("pair-title").focus();
          });
          cell.append(button);
        }
        cells.push(cell);
      });
      table.append(row(cells));
    });
  }

  function scatter(pair) {
    const kind = byId("points").value;
    const [x, y] = pair[kind];
    const axis = (label) => ({
      title: { text: plain(`${at(label)}: ${kind === "pc1" ? "loading on PC1" : "cosine with the axis"}`) },
      gridcolor: theme.line, zerolinecolor: theme.middle, linecolor: theme.line, automargin: true,
    });
    Plotly.react(byId("scatter"), [{
      type: "scatter", mode: "markers", x, y, text: pair.roles.map((r) => plain(words(r))),
      hovertemplate: "<b>%{text}</b><br>%{x:.2f}, %{y:.2f}<extra></extra>",
      marker: { size: 9, opacity: 0.85, color: theme.assistant, line: { width: 0.5, color: theme.card } },
    }], {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 12, t: 10, b: 48 }, showlegend: false,
      font: { family: "system-ui, sans-serif", size: 12.5, color: theme.ink }, hovermode: "closest",
      hoverlabel: { bgcolor: theme.card, bordercolor: theme.line, font: { color: theme.ink, size: 13 }, align: "left" },
      xaxis: axis(pair.first), yaxis: axis(pair.second),
    }, { displayModeBar: false, responsive: true });
    byId("scatter-note").textContent = `${pair.roles.length} roles; the name of each shows when the pointer is on it. ` +
      (kind === "pc1" ? "The positive end of PC1 is the axis's." : "Each is the cosine of the role vector less the mean one.");
  }

  function grouped(body, rows, width, cells) {
    body.replaceChildren();
    let last = "";
    for (const one of rows) {
      if (one.group !== last) body.append(heading(one.group, width));
      last = one.group;
      body.append(cells(one));
    }
  }
  function tables(pair) {
    grouped(byId("between"), pair.between, 5, (r) => {
      const f = r.figure;
      return row([r.name, show(f.value), `${show(f.low)} to ${show(f.high)}`, show(f.null_q95), chance(f.p_value)], above(f) ? "above" : "");
    });
    byId("not-comparable").textContent = pair.not_comparable
      ? `Cosine of the axes and overlap of the components: not comparable: ${pair.not_comparable}.`
      : `Principal angles of the components: ${pair.angles.map((a) => `${show(a, 0)}\u00b0`).join(", ")}.`;
    byId("apart-head").replaceChildren(make("th"), ...[pair.first, pair.second, "second against first"].map((t) => make("th", "", t)));
    grouped(byId("apart"), pair.apart, 4, (r) => {
      const text = (f, form) => `${form(f.value)} (${form(f.low)} to ${form(f.high)})`;
      const form = r.percent ? percent : (x) => show(x, 1);
      const less = r.contrast === "difference";
      return row([r.name, text(r.figure.first, form), text(r.figure.second, form), (less ? "" : "\u00d7 ") + text(r.figure.contrast, less ? percent : show)]);
    });
    const list = (label, roles) => (roles.length ? `In ${label} alone, ${roles.length}: ${roles.map(words).join(", ")}. ` : "");
    byId("missing").textContent = list(pair.first, pair.only_first) + list(pair.second, pair.only_second);
  }

  function drawAll() {
    readTheme();
    const pair = data.pairs[chosen];
    byId("pair-title").textContent = `${pair.first} and ${pair.second}: ${named.get(pair.first).name} and ${named.get(pair.second).name}`;
    byId("pair-notes").replaceChildren(...pair.notes.map((text) => make("p", "warning", text)));
    matrix();
    scatter(pair);
    tables(pair);
  }
  for (const name of Object.keys(data.pairs[0].matrix)) {
    const option = make("option", "", name);
    option.value = name;
    byId("figure").append(option);
  }
  maps();
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  byId("figure").addEventListener("change", drawAll);
  byId("points").addEventListener("change", drawAll);
  document.documentElement.dataset.ready = "1";
})();
