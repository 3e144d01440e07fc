// Calls that were: the list, and how one finds a call in it.

import { ask, at, clock, complain, day, el, party, say, way } from "./dom.js";

const FIELDS = ["words", "number", "persona", "outcome", "from", "to"];

export class Past {
  constructor() {
    this.form = at("filters");
    this.asked = 0;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.go();
    });
    this.form.addEventListener("reset", () => {
      location.hash = "#/calls";
    });
    at("newest").addEventListener("click", () => this.go());
    at("older").addEventListener("click", () => this.go(this.last));
    this.last = "";
    this.personas = new Set();
  }

  // Those that have been seen may be chosen from.
  offer(calls) {
    for (const { persona } of calls) if (persona) this.personas.add(persona);
    at("personas").replaceChildren(...[...this.personas].sort().map((value) => el("option", { value })));
  }

  // The address says what is looked for, so that it can be kept and passed on.
  go(before = "") {
    const query = new URLSearchParams();
    for (const name of FIELDS) {
      const value = this.form.elements[name].value.trim();
      if (value) query.set(name, value);
    }
    if (before) query.set("before", before);
    const hash = `#/calls${query.size ? `?${query}` : ""}`;
    if (location.hash === hash) this.load(query);
    else location.hash = hash;
  }

  show(id, query) {
    for (const name of FIELDS) this.form.elements[name].value = query.get(name) ?? "";
    this.load(query);
  }

  hide() {
    this.asked += 1;
  }

  async load(query) {
    const asked = (this.asked += 1);
    const params = new URLSearchParams(query);
    // Days are the viewer's own, from midnight to midnight.
    for (const [name, days, told] of [["from", 0, "since"], ["to", 1, "until"]]) {
      params.delete(name);
      const date = new Date(`${query.get(name)}T00:00`);
      date.setDate(date.getDate() + days);
      if (!Number.isNaN(date.getTime())) params.set(told, date.getTime() / 1000);
    }
    let found;
    try {
      found = await ask(`console/calls?${params}`);
    } catch (refused) {
      if (asked === this.asked) complain(`The calls cannot be read: ${refused.message}`);
      return;
    }
    if (asked !== this.asked) return;
    complain("");
    const words = (query.get("words") ?? "").trim();
    at("past-rows").replaceChildren(...found.calls.flatMap((call) => rowsOf(call, words)));
    at("past-empty").hidden = found.calls.length > 0;
    this.offer(found.calls);
    const { length } = found.calls;
    const older = found.more ? ", and older ones" : "";
    say(at("calls-count"), length ? `${length} ${length === 1 ? "call" : "calls"}${older}` : "none found");
    this.last = found.calls.at(-1)?.number ?? "";
    at("pager").hidden = !query.get("before") && !found.more;
    at("newest").disabled = !query.get("before");
    at("older").disabled = !found.more;
  }
}

function rowsOf(call, words) {
  const query = words ? `?${new URLSearchParams({ words })}` : "";
  const href = `#/calls/${encodeURIComponent(call.id)}${query}`;
  const outcome = el("span", { class: "outcome", "data-outcome": call.outcome, title: call.reason }, call.outcome);
  const row = el(
    "tr",
    { "data-id": call.id },
    el("td", {}, el("a", { href }, day(call.began))),
    el("td", { "data-label": "Caller" }, party(call.caller)),
    el("td", { "data-label": "Called" }, party(call.called)),
    el("td", { "data-label": "Persona" }, call.persona),
    el("td", { "data-label": "Way in" }, way(call.way)),
    el("td", { class: "number", "data-label": "Length" }, call.duration_s === null ? "–" : clock(call.duration_s)),
    el("td", { class: "number", "data-label": "Turns" }, String(call.turns)),
    el("td", {}, outcome),
  );
  const rows = [row];
  for (const hit of call.hits ?? []) {
    const said = el("td", { colspan: 8 }, `${hit.who === "agent" ? "Agent" : "Caller"}: `, ...hitParts(hit));
    rows.push(el("tr", { class: "snippet", "data-id": call.id }, said));
  }
  for (const one of rows) {
    one.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !String(getSelection())) location.hash = href;
    });
  }
  return rows;
}

// `parts` alternate: beside, found, beside, ...
function hitParts({ parts }) {
  return parts.map((part, index) => (index % 2 ? el("mark", {}, part) : part));
}
