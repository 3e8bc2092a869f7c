// Saving, sharing and opening conversations, and those that come with the page.

import * as api from "./api.js";
import { $, app, copy, download, namesOf, ownSource, say, sourceOf, warn } from "./app.js";
import { draw } from "./draw.js";
import { read, readLinkSettings, write } from "./format.js";
import { make } from "./scale.js";
import { conversation, fromLink, remember, show, state, toLink } from "./state.js";

/** Where a saved conversation goes in the document that is shared. It is not written out, or it would be here too. */
const PLACE = ["%%", "SAVED", "%%"].join("");

/** Return what is saved: all conversations, or the one that is shown. */
export function saved(all = true) {
  const talks = all ? state.conversations : [conversation()];
  return write(talks, all ? state.current : 0, sourceOf, namesOf);
}

/** Return the document with the conversation that is shown, which opens without a server. */
export async function sharedPage() {
  const page = await api.page("shared.html");
  // "<" is escaped, so that no text ends the data block.
  const data = JSON.stringify(saved(false)).replaceAll("<", "\\u003c");
  return page.replace(PLACE, () => data);
}

/** Return both columns as chats, as other programs read them, with the raw values beside each reply. */
export function chats() {
  const talk = conversation();
  const { system, temperature } = talk.settings;
  const columns = namesOf(talk).map((name, column) => ({
    name,
    messages: talk.turns.flatMap((turn) => [
      { role: "user", content: turn.user },
      { role: "assistant", content: turn.replies[column].text, personascope: turn.replies[column] },
    ]),
  }));
  const { model, map } = sourceOf(talk);
  return { model, map, system, temperature, columns };
}

/** Take what a file holds, beside what is there; nothing is taken of a file with an error. */
export function take(value) {
  const found = read(value);
  remember();
  for (const talk of found.conversations) {
    const source = ownSource(talk.source);
    show({ ...talk, source });
  }
  state.current = state.conversations.length - found.conversations.length + found.current;
  draw();
  return found.conversations.length;
}

async function opened(file) {
  let value;
  try {
    const text = await file.text();
    value = JSON.parse(text.trimStart().startsWith("<") ? dataOf(text) : text);
  } catch (error) {
    warn(`${file.name} cannot be opened: ${error.message}. Nothing here was changed.`);
    return;
  }
  try {
    take(value);
    warn("");
    say(`${file.name} is open.`);
  } catch (error) {
    warn(`${file.name} cannot be opened: ${error.message}. Nothing here was changed.`);
  }
}

/** Return the data block of a shared page, which is parsed and never run. */
function dataOf(text) {
  const block = new DOMParser().parseFromString(text, "text/html").getElementById("saved");
  if (!block) throw new Error("it is a page without a conversation");
  return block.textContent;
}

/** Tie the buttons of files and of sharing. */
export function tieFiles() {
  const dialog = $("sharing");
  $("share").addEventListener("click", () => dialog.showModal());
  $("open").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async () => {
    const files = [...$("file").files];
    $("file").value = "";
    for (const file of files) await opened(file);
  });
  const acts = {
    "save-json": () => download("personascope.json", JSON.stringify(saved()), "application/json"),
    "save-html": async () => download("personascope.html", await sharedPage(), "text/html"),
    "save-chats": () => download("conversation.json", JSON.stringify(chats(), null, 1), "application/json"),
    "save-link": () => copy(location.origin + location.pathname + toLink()),
  };
  for (const [id, act] of Object.entries(acts)) $(id).addEventListener("click", async () => {
    try {
      await act();
      dialog.close();
    } catch (error) {
      dialog.close();
      warn(`It was not saved: ${error.message}`);
    }
  });
  if (app.offline) for (const id of ["save-html", "save-link"]) $(id).closest("li").hidden = true;
}

/** Take the settings of a link; return its messages. */
export function takeLink(hash) {
  try {
    const value = fromLink(hash);
    if (!value) return [];
    conversation().settings = readLinkSettings(value.settings);
    return value.asked.filter((one) => one.trim());
  } catch (error) {
    warn(`The link cannot be read: ${error.message}`);
    return [];
  }
}

/** Offer the conversations that come with the page. */
export async function offerRecordings() {
  const listed = JSON.parse(await api.page("index.json"));
  $("recordings").replaceChildren(...listed.map(({ file, title, note }) => {
    const button = make("button", "recording");
    button.type = "button";
    button.append(make("b", "", title), make("span", "fine", note));
    button.addEventListener("click", async () => {
      try {
        await openRecording(file);
        await app.acts.replay();
      } catch (error) {
        warn(`The recording cannot be opened: ${error.message}`);
      }
    });
    return button;
  }));
}

/** Open a recorded conversation beside what is there. */
export async function openRecording(file) {
  take(JSON.parse(await api.page(file)));
}
