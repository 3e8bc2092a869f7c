// A tour of the page in four steps, on a recorded conversation, so that there is something to see.

import { $, app } from "./app.js";
import { panels } from "./draw.js";
import { make } from "./scale.js";
import { conversation } from "./state.js";

const STEPS = [
  {
    at: "#heads",
    title: "One message, two plans",
    text: "Both columns get the same message and the same random numbers. They differ in their plan alone: here none on the left, and on the right a cap, which keeps the model from moving away from the Assistant.",
  },
  {
    at: "#legend",
    title: "Every token has a position",
    text: "Orange is toward the roles, blue toward the Assistant: 0 is the mean role, 1 the default Assistant. Point at a token, or use the arrow keys in a reply, for its position, its percentile and how far the cap moved it.",
  },
  {
    at: ".panels",
    title: "Where the conversation goes",
    text: "The trajectory shows each reply's position; press a point to go to its reply. The persona space shows it among the roles, and By layer shows it through the depth of the model.",
    panel: "path",
  },
  {
    at: "#settings",
    otherwise: ".tools",
    title: "Change the plan, keep what you found",
    text: "Under Columns, set the cap's floor and layers or steer along the axis: it acts on the next reply. Save and share writes a file that anyone can open offline.",
  },
];

let step = -1;
let back = null;

/** Begin the tour. */
export function tour() {
  back = document.activeElement;
  go(0);
}

function go(number) {
  for (const node of document.querySelectorAll(".toured")) node.classList.remove("toured");
  step = number;
  const card = $("touring");
  if (step < 0 || step >= STEPS.length) {
    card.hidden = true;
    back?.focus();
    return;
  }
  const { at, otherwise, title, text, panel } = STEPS[step];
  if (panel) {
    app.panel = panel;
    panels();
  }
  const seen = [at, otherwise].filter(Boolean).map((one) => document.querySelector(one)).find((one) => one?.offsetParent);
  const last = step === STEPS.length - 1;
  const button = (label, act, name = "") => {
    const made = make("button", name, label);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  };
  const row = make("div", "buttons");
  if (step) row.append(button("Back", () => go(step - 1)));
  row.append(button(last ? "Done" : "Next", () => go(last ? -1 : step + 1), "main"));
  if (!last) row.append(button("Close", () => go(-1)));
  const heading = make("h2", "", title);
  heading.id = "tour-title";
  card.replaceChildren(make("p", "fine", `Step ${step + 1} of ${STEPS.length}`), heading, make("p", "", text), row);
  card.hidden = false;
  if (seen?.tagName === "DETAILS") seen.open = true;
  seen?.classList.add("toured");
  seen?.scrollIntoView({ block: "nearest" });
  row.querySelector(".main").focus({ preventScroll: true });
}

/** Tie the tour's button; `ready` shows a conversation if none is there. */
export function tieTour(ready) {
  $("tour").addEventListener("click", async () => {
    if (!conversation().turns.length) await ready();
    tour();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && step >= 0 && !document.querySelector("dialog[open]")) go(-1);
  });
}
