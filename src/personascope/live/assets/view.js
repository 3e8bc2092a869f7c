// The conversation on the page. Every text of a model, a user or a file enters it as text, never as markup.

import { make, percentile, signed, tint } from "./scale.js";
import { state } from "./state.js";

const tip = document.getElementById("tip");

const shown = (one) => (state.before && Number.isFinite(one.before) ? one.before : one.position);

/** One reply on the page, to which tokens are added as they come. */
export class ReplyView {
  constructor(reply, column, name, { pick }) {
    this.reply = reply;
    this.pick = pick;
    this.node = make("article", `reply col${column}`);
    // What a finished reply ran under stays its name, whatever the column is set to now.
    name = reply.seed === null ? name : reply.name || "No plan";
    this.name = name;
    this.node.setAttribute("aria-label", name);
    this.node.tabIndex = -1;
    this.thoughts = make("details", "thoughts");
    this.thoughts.hidden = true;
    this.thought = make("div", "said");
    this.thoughts.append(make("summary", "", "Thinking"), this.thought);
    this.said = make("div", "said");
    this.said.tabIndex = 0;
    this.said.dir = "auto";
    this.said.setAttribute("role", "textbox");
    this.said.setAttribute("aria-readonly", "true");
    this.said.setAttribute("aria-multiline", "true");
    this.said.setAttribute("aria-label", `${name}: reply; arrow keys read the position of each token`);
    this.meta = make("p", "meta");
    this.node.append(make("p", `who col${column}`, name), this.thoughts, this.said, this.meta);
    this.active = -1;
    this.listen();
    if (reply.tokens.length) this.add(reply.tokens);
    else this.addText(reply.text, reply.thinking);
    this.drawMeta();
  }

  busy(on) {
    this.said.classList.toggle("busy", on);
  }

  /** Add tokens that carry positions. */
  add(tokens) {
    for (const token of tokens) {
      if (!token.text || token.part === "mark") continue;
      const node = make("span", tint(shown(token)), token.text);
      node.token = token;
      this.box(token.part).append(node);
    }
  }

  /** Add text of a server without a map. */
  addText(content, thinking) {
    if (thinking) this.box("thinking").append(thinking);
    if (content) this.box("answer").append(content);
  }

  box(part) {
    if (part !== "thinking") return this.said;
    this.thoughts.hidden = false;
    return this.thought;
  }

  /** Tint again, after a choice of what is shown. */
  retint() {
    for (const box of [this.said, this.thought])
      for (const node of box.children) node.className = tint(shown(node.token));
  }

  drawMeta() {
    const { reply, meta } = this;
    meta.replaceChildren();
    const parts = [];
    if (reply.answer) {
      meta.append(make("b", "", signed(shown(reply.answer))));
      parts.push(percentile(reply.answer.percentile));
      const moved = reply.answer.position - reply.answer.before;
      if (Number.isFinite(reply.answer.before) && Math.abs(moved) >= 0.005) parts.push(`moved ${signed(moved)}`);
    }
    if (reply.share > 0) parts.push(`cap fired on ${(reply.share * 100).toFixed(0)}% of tokens`);
    if (reply.seed !== null) parts.push(reply.name || "no plan");
    if (reply.finish === "length") parts.push("cut at the limit");
    else if (reply.finish && reply.finish !== "stop") parts.push(reply.finish);
    if (reply.seed !== null) parts.push(`seed ${reply.seed}`);
    meta.append(` ${parts.filter(Boolean).join(" · ")}`);
    if (reply.alarm !== null) {
      const at = reply.alarm < 0 ? "" : ` at token ${reply.alarm + 1}`;
      meta.append(make("span", "alarm", ` · alarm${at}`));
    }
    if (reply.error) meta.append(make("span", "bad", ` ${reply.error}`));
  }

  listen() {
    for (const box of [this.said, this.thought]) {
      // A finger taps, and does not hover.
      for (const kind of ["pointermove", "click"]) box.addEventListener(kind, (event) => {
        const node = event.target.closest?.("span");
        if (node?.token) {
          if (!tip.hidden && this.pointed === node) return;
          this.pointed = node;
          showTip(node, event.clientX, event.clientY);
          this.pick(node.token);
        } else hideTip();
      });
      box.addEventListener("pointerleave", hideTip);
    }
    this.said.addEventListener("keydown", (event) => this.walk(event));
    this.said.addEventListener("blur", () => this.mark(-1));
  }

  walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    const count = this.said.children.length;
    if (event.key === "Escape") this.mark(-1);
    if (step === undefined || !count) return;
    event.preventDefault();
    this.mark(Math.max(0, Math.min(count - 1, this.active + step)));
  }

  /** Show one token, as the arrow keys do. */
  show(token) {
    const index = [...this.said.children].findIndex((node) => node.token === token);
    this.said.focus({ preventScroll: true });
    if (index >= 0) this.mark(index);
  }

  mark(index) {
    this.said.children[this.active]?.classList.remove("on");
    this.active = index;
    const node = this.said.children[index];
    this.pick(node?.token ?? null);
    if (!node) {
      hideTip();
      return;
    }
    node.classList.add("on");
    const box = node.getBoundingClientRect();
    showTip(node, box.left, box.bottom);
    document.getElementById("status").textContent = describe(node.token);
  }
}

/** Say where a token lies. */
export function describe(token) {
  const word = JSON.stringify(token.text);
  if (!Number.isFinite(token.position)) return `${word}\nno position: the reply ends in this token`;
  const lines = [word, `position ${signed(token.position)}`];
  const share = percentile(token.percentile);
  if (share) lines.push(share);
  const moved = token.position - token.before;
  if (Number.isFinite(token.before) && Math.abs(moved) < 0.005) lines.push("not moved at this layer");
  else if (Number.isFinite(token.before)) lines.push(`before the plan ${signed(token.before)}, moved ${signed(moved)}`);
  return lines.join("\n");
}

function showTip(node, x, y) {
  tip.textContent = describe(node.token);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(6, Math.min(x + 10, innerWidth - box.width - 6))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(6, y - box.height - 12) : y + 18}px`;
}

export function hideTip() {
  tip.hidden = true;
}

/** Draw the user's message of a turn, with what can be done with it; nothing where there are no acts. */
export function userView(turn, number, { edit, branch, again }) {
  const node = make("div", "user");
  node.dir = "auto";
  const text = make("div", "text", turn.user);
  const acts = make("div", "acts");
  const known = edit ? [["Edit", () => editing()], ["Branch", branch], ["Again", again]] : [];
  for (const [label, act] of known) {
    const button = make("button", "", label);
    button.type = "button";
    button.setAttribute("aria-label", `${label}, message ${number + 1}`);
    button.addEventListener("click", act);
    acts.append(button);
  }
  node.append(text, acts);

  function editing() {
    const form = make("form");
    const area = make("textarea");
    area.value = turn.user;
    area.rows = 3;
    area.setAttribute("aria-label", `Message ${number + 1}`);
    const row = make("div", "acts");
    const send = make("button", "main", "Send again");
    const cancel = make("button", "", "Cancel");
    cancel.type = "button";
    row.append(send, cancel);
    form.append(area, row);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (area.value.trim()) edit(area.value);
    });
    cancel.addEventListener("click", () => node.replaceChildren(text, acts));
    node.replaceChildren(form);
    area.focus();
  }
  return node;
}
