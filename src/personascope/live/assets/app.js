// What the parts of the page share: the server, what runs, which view is shown, and small helpers.

import { columnName } from "./names.js";
import { conversation } from "./state.js";

export const app = {
  /** What the server serves; null before it has answered, and in a page that was saved. */
  about: null,
  /** The abort controller of what is being written or replayed; null while nothing is. */
  running: null,
  /** Whether the page is a saved one, with no server behind it. */
  offline: false,
  /** Whether replies are asked for their position at every layer. */
  layers: false,
  mode: "turn",
  panel: "path",
  flat: true,
  views: [],
  /** What the layers are shown of: turn, and column and token if one was chosen. */
  picked: null,
  /** What can be done, by name; main.js fills it in, so that drawing imports none of it. */
  acts: {},
};

export const $ = (id) => document.getElementById(id);

export function say(text) {
  $("status").textContent = text;
}

export function warn(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

/** Return what a conversation's replies are of. */
export function sourceOf(talk) {
  return talk.source ?? app.about;
}

/** Return the names of both columns. */
export function namesOf(talk = conversation()) {
  const asked = () => talk.settings.columns.map((column) => columnName(column, app.about));
  return canAsk(talk) ? asked() : talk.names ?? asked();
}

/** Return whether the server can go on with a conversation. */
export function canAsk(talk = conversation()) {
  return app.about !== null && talk.source === null && talk.kind !== "compared";
}

/** Return a source that stands for the server if it is of the same model and map. */
export function ownSource(source) {
  const mine = app.about;
  const same = mine !== null && mine.model === source.model
    && (mine.map?.digest ?? "") === (source.map?.digest ?? "") && mine.map?.layer === source.map?.layer;
  return same ? null : source;
}

export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const anchor = document.createElement("a");
  Object.assign(anchor, { href: url, download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    // A page that is not served over TLS has no clipboard.
    warn(`Copy this by hand:\n${text}`);
  }
}
