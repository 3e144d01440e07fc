// Calls that are on: the table, and one call's transcript while it is spoken.

import { announce, ask, at, clock, complain, el, party, say, wait, way } from "./dom.js";
import { Feed } from "./feed.js";
import { fill } from "./transcript.js";

const STATES = {
  listening: "listening",
  caller: "caller speaks",
  thinking: "thinking",
  agent: "agent speaks",
  both: "both speak",
  ended: "ended",
};
const THINKING_LIMIT_MS = 8000; // what was heard held no words
const ENDED_SHOWN_MS = 6000;
const CONFIRM_MS = 4000;

export class Live {
  constructor({ endsCalls }) {
    this.endsCalls = endsCalls;
    this.feed = new Feed((message) => this.hear(message), (state) => this.connection(state));
    this.rows = new Map(); // id -> { call, row, cells }
    this.entries = new Map(); // number -> item
    this.opened = "";
    this.skew = 0; // the server's clock minus ours, in ms
    this.filter = "";
    this.asked = 0;
    at("live-filter").addEventListener("input", (event) => {
      this.filter = event.target.value.trim().toLowerCase();
      this.showWho();
    });
    at("end-call").addEventListener("click", () => this.end());
    at("live-entries").addEventListener("toggle", (event) => event.target.scrollIntoView({ block: "nearest" }), true);
    setInterval(() => this.tick(), 1000);
  }

  show(id) {
    const other = id !== this.opened;
    this.opened = id;
    at("opened").hidden = !id;
    document.body.classList.toggle("opened-call", Boolean(id));
    if (other) {
      this.entries.clear();
      at("live-entries").replaceChildren();
      this.disarm();
      say(at("opened-heading"), "Call");
      say(at("opened-facts"), "");
    }
    for (const { row, call } of this.rows.values()) mark(row, call.id === id);
    this.showOpened();
    this.feed.watch(id);
    if (id && other) at("opened-heading").focus({ preventScroll: true });
  }

  hide() {
    this.feed.stop();
  }

  connection(state) {
    complain(state === "lost" ? "The connection to the server was lost; trying again …" : "");
  }

  hear(message) {
    this.skew = message.now_ms - Date.now();
    if (message.reset) {
      const known = new Set(message.calls.map((call) => call.id));
      for (const id of [...this.rows.keys()]) if (!known.has(id)) this.drop(id);
    }
    for (const call of message.calls) this.update(call);
    if (message.call?.id === this.opened) {
      if (message.reset) {
        this.entries.clear();
        at("live-entries").replaceChildren();
      }
      this.transcribe(message.call);
    }
    this.showHouse(message.house);
    this.showOpened(message.call);
    say(document.body.querySelector("#live-heading"), "On now");
    at("live-empty").hidden = this.rows.size > 0;
    document.body.dataset.live = "true";
  }

  now() {
    return Date.now() + this.skew;
  }

  update(call) {
    let known = this.rows.get(call.id);
    if (!known) {
      if (call.ended_ms !== null && this.now() - call.ended_ms > ENDED_SHOWN_MS) return;
      known = this.rowOf(call);
      this.rows.set(call.id, known);
      at("live-rows").prepend(known.row);
    }
    const over = known.call.state !== "ended" && call.state === "ended";
    known.call = call;
    if (over && call.id === this.opened) announce(`The call has ended: ${call.reason}`);
    const { cells, row } = known;
    say(cells.caller.firstChild, party(call.caller));
    say(cells.called, party(call.called));
    say(cells.persona, call.persona);
    say(cells.way, way(call.way));
    say(cells.wait, wait(call.latency_ms));
    row.dataset.paused = call.paused;
    row.dataset.faults = call.faults > 0;
    this.showState(known);
    this.filterRow(known);
  }

  rowOf(call) {
    const cells = {
      caller: el("td", {}, el("a", { href: `#/live/${encodeURIComponent(call.id)}` })),
      called: el("td", { "data-label": "Called" }),
      persona: el("td", { "data-label": "Persona" }),
      way: el("td", { "data-label": "Way in" }),
      length: el("td", { class: "number", "data-label": "Length" }),
      state: el("td", {}, el("span", { class: "state" })),
      wait: el("td", { class: "number", "data-label": "Last wait" }),
    };
    const row = el("tr", { "data-id": call.id }, ...Object.values(cells));
    row.addEventListener("click", (event) => {
      if (event.target.closest("a") || String(getSelection())) return;
      location.hash = cells.caller.firstChild.getAttribute("href");
    });
    mark(row, call.id === this.opened);
    return { call, row, cells };
  }

  drop(id) {
    this.rows.get(id)?.row.remove();
    this.rows.delete(id);
  }

  showState(known) {
    const { call, cells, row } = known;
    const stale = call.state === "thinking" && this.now() - call.since_ms > THINKING_LIMIT_MS;
    const state = stale ? "listening" : call.state;
    row.dataset.state = state;
    const text = state === "ended" ? `ended: ${call.reason}` : STATES[state] ?? state;
    say(cells.state.firstChild, call.paused ? `${text}, recording paused` : text);
    say(cells.length, clock(((call.ended_ms ?? this.now()) - call.began_ms) / 1000));
  }

  tick() {
    for (const [id, known] of this.rows) {
      const { ended_ms: ended } = known.call;
      if (ended !== null && this.now() - ended > ENDED_SHOWN_MS && id !== this.opened) this.drop(id);
      else this.showState(known);
    }
    at("live-empty").hidden = this.rows.size > 0;
    this.showFacts();
  }

  filterRow({ call, row }) {
    const text = `${call.caller} ${call.called} ${call.persona} ${way(call.way)}`.toLowerCase();
    row.hidden = Boolean(this.filter) && !text.includes(this.filter);
  }

  showWho() {
    for (const known of this.rows.values()) this.filterRow(known);
  }

  showHouse(house) {
    const capacity = house.capacity;
    const parts = [`${house.live} ${house.live === 1 ? "call" : "calls"}`];
    if (capacity) parts.push(`${capacity.in_use} of ${capacity.of} places taken`);
    if (capacity?.refused) parts.push(`${capacity.refused} turned away`);
    if (house.draining) parts.push("no new calls: the server is being stopped");
    say(at("house"), parts.join(" · "));
  }

  // The call that is open

  transcribe({ entries }) {
    const list = at("live-entries");
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    const agent = this.rows.get(this.opened)?.call.persona;
    for (const entry of entries) {
      let item = this.entries.get(entry.number);
      if (entry.dropped) {
        item?.remove();
        this.entries.delete(entry.number);
        continue;
      }
      if (!item) {
        item = el("li", { "data-number": entry.number });
        this.entries.set(entry.number, item);
        const after = [...list.children].findLast((other) => Number(other.dataset.number) < entry.number);
        if (after) after.after(item);
        else list.prepend(item);
      }
      const open = item.querySelector("details")?.open;
      fill(item, entry, agent);
      if (open) item.querySelector("details")?.setAttribute("open", "");
    }
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  showOpened(told) {
    if (!this.opened) return;
    const known = this.rows.get(this.opened);
    const on = known && known.call.state !== "ended";
    at("opened-empty").hidden = this.entries.size > 0;
    if (told && !told.known && !known) say(at("opened-empty"), "This call is not on any more.");
    else say(at("opened-empty"), "Waiting for the first words …");
    at("end-call").hidden = !(this.endsCalls && on);
    this.showFacts();
  }

  showFacts() {
    const known = this.rows.get(this.opened);
    if (!known) return;
    const { call } = known;
    say(at("opened-heading"), `${party(call.caller)} → ${party(call.called)}`);
    const facts = [call.persona, way(call.way), known.cells.length.textContent, known.cells.state.textContent];
    say(at("opened-facts"), facts.filter(Boolean).join(" · "));
    at("opened").dataset.state = known.row.dataset.state;
  }

  // The first click asks, the second one within a few seconds does it.
  async end() {
    const button = at("end-call");
    if (!this.asked) {
      say(button, "Really end it?");
      announce("Press once more to end this call");
      this.asked = setTimeout(() => this.disarm(), CONFIRM_MS);
      return;
    }
    this.disarm();
    button.disabled = true;
    try {
      await ask(`console/live/${encodeURIComponent(this.opened)}/end`, { method: "POST" });
      announce("The agent says goodbye");
    } catch (refused) {
      complain(`The call was not ended: ${refused.message}`);
    }
    button.disabled = false;
  }

  disarm() {
    clearTimeout(this.asked);
    this.asked = 0;
    say(at("end-call"), "End politely");
  }
}

function mark(row, current) {
  if (current) row.setAttribute("aria-current", "true");
  else row.removeAttribute("aria-current");
}
