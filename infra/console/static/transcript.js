// One entry of a transcript as a list item, for calls that are on and calls that were.

import { el, wait } from "./dom.js";

export const STAGES = [
  ["endpoint_wait_ms", "Waiting for the end of the turn"],
  ["transcription_ms", "Understanding the words"],
  ["first_token_ms", "First word of an answer"],
  ["first_clause_ms", "First clause"],
  ["first_audio_ms", "First sound"],
  ["playout_ms", "On its way to the ear"],
];
const NAMES = { caller: "Caller", keys: "Keys", tool: "Tool", note: "" };
const BAR_FULL_MS = 3000;

// entry: { who, at_s, text, lost, interrupted, partial, latency_ms, stages }. `agent` is how the agent is called;
// `found` are words to mark, in lower case.
export function fill(item, entry, agent, found = []) {
  item.className = entry.who;
  item.dataset.partial = Boolean(entry.partial);
  const words = el("p", { class: "words" }, ...marked(entry.text, found));
  if (entry.lost) words.append(" ", el("s", { title: "Not heard any more" }, entry.lost));
  const who = entry.who === "agent" ? agent || "Agent" : NAMES[entry.who];
  item.replaceChildren(el("p", { class: "who" }, who), words);
  if (entry.interrupted) item.append(el("p", { class: "cut" }, "interrupted by the caller"));
  const bar = waitBar(entry);
  if (bar) item.append(bar);
  return item;
}

function marked(text, found) {
  if (!found.length) return [text];
  const parts = [];
  const lower = text.toLowerCase();
  let from = 0;
  while (lower.length === text.length) {
    const next = found
      .map((word) => [lower.indexOf(word, from), word.length])
      .filter(([place, length]) => place >= 0 && length > 0)
      .sort(([one, a], [other, b]) => one - other || b - a)[0];
    if (!next) break;
    parts.push(text.slice(from, next[0]), el("mark", {}, text.slice(next[0], next[0] + next[1])));
    from = next[0] + next[1];
  }
  return [...parts, text.slice(from)];
}

// The parts of one wait, to one scale in all turns; the same in words for whoever opens it.
function waitBar({ stages, latency_ms: latency }) {
  if (latency === null || latency === undefined) return null;
  const known = STAGES.map(([key, name], index) => ({ name, index, ms: stages?.[key] ?? 0 }));
  if (!stages || Object.keys(stages).length === 0) {
    return el("p", { class: "wait plain" }, `answered after ${wait(latency)}`);
  }
  const bar = el("span", { class: "stages", "aria-hidden": "true" });
  const list = el("ul");
  for (const { name, index, ms } of known) {
    const part = el("i", { "data-stage": index });
    part.style.width = `${(100 * Math.max(0, ms)) / Math.max(latency, BAR_FULL_MS)}%`;
    bar.append(part);
    list.append(el("li", { "data-stage": index }, name, el("data", { value: ms }, `${Math.round(ms)} ms`)));
  }
  const summary = el("summary", { "aria-label": `Answered after ${wait(latency)}; show the parts` });
  summary.append(bar, el("span", { class: "total" }, wait(latency)));
  return el("details", { class: "wait" }, summary, list);
}
