// Two conversations side by side: any column of one beside any column of another, as saved or live.

import { $, namesOf, sourceOf, warn } from "./app.js";
import { draw } from "./draw.js";
import { make, signed } from "./scale.js";
import { copyOf, newReply, newSettings, remember, show, state } from "./state.js";

/** Return every column of every conversation that has replies. */
function columns() {
  return state.conversations.flatMap((talk, number) => (talk.turns.length && talk.kind !== "compared"
    ? namesOf(talk).map((name, column) => ({
      talk, column, name, label: `${talk.title || talk.turns[0].user.slice(0, 40) || `Conversation ${number + 1}`}: ${name}`,
    })) : []));
}

/** Return the two columns as one conversation that can be read and saved. */
export function compared(left, right) {
  const length = Math.max(left.talk.turns.length, right.talk.turns.length);
  const turns = [];
  for (let number = 0; number < length; number += 1) {
    const [a, b] = [left, right].map((side) => side.talk.turns[number]);
    const user = a?.user === b?.user ? a.user : [a && `Left: ${a.user}`, b && `Right: ${b.user}`].filter(Boolean).join("\n");
    const replies = [[left, a], [right, b]].map(([side, turn]) => (turn ? copyOf(turn.replies[side.column]) : newReply()));
    turns.push({ user, replies });
  }
  const names = [left, right].map((side) => side.label);
  return {
    title: "Comparison", kind: "compared", note: summary(turns, left, right), names, source: left.talk.source,
    settings: newSettings(), turns,
  };
}

function summary(turns, left, right) {
  const [a, b] = [left, right].map((side) => sourceOf(side.talk).map);
  const means = [0, 1].map((column) => {
    const found = turns.map((turn) => turn.replies[column].answer?.position).filter(Number.isFinite);
    return found.length ? found.reduce((sum, one) => sum + one, 0) / found.length : NaN;
  });
  const parts = [`Mean position of the replies: left ${signed(means[0])}, right ${signed(means[1])}, right minus left ${signed(means[1] - means[0])}.`];
  if (a?.digest !== b?.digest || a?.layer !== b?.layer)
    parts.push("The two are of different maps or layers, so their positions have different units; legend and band are the left one's.");
  return parts.join(" ");
}

/** Tie the dialog in which two columns are chosen. */
export function tieCompare() {
  const dialog = $("comparing");
  $("compare").addEventListener("click", () => {
    const found = columns();
    if (found.length < 2) {
      warn("There is nothing to compare yet: ask something, or open two saved files.");
      return;
    }
    const preset = [0, found.length > 2 ? found.length - 1 : 1];
    ["compare-left", "compare-right"].forEach((id, side) => {
      $(id).replaceChildren(...found.map((one, number) => {
        const option = make("option", "", one.label);
        option.value = number;
        option.selected = number === preset[side];
        return option;
      }));
    });
    dialog.showModal();
  });
  $("comparison").addEventListener("submit", () => {
    const found = columns();
    const [left, right] = ["compare-left", "compare-right"].map((id) => found[Number($(id).value)]);
    if (!left || !right) return;
    remember();
    show(compared(left, right));
    draw();
  });
}
