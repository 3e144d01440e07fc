// One call that was: its sound, the stages of each turn on the call's clock, and what was said.

import { ask, at, clock, complain, day, el, party, say, svg, tenths, way } from "./dom.js";
import { fill } from "./transcript.js";

const OVERVIEW_POINTS = 1200;
const LEGEND = ["End-of-turn wait", "Transcription", "First token", "First clause", "First audio", "Playout"];
const HEIGHT = 240;
const CALLER_MIDDLE = 52;
const AGENT_MIDDLE = 188;
const HALF = 22;
const LANES_TOP = 81;
const LANE = 13;
const CHARACTER_PX = 6.2;

export class Player {
  constructor() {
    this.id = "";
    this.page = null;
    this.length = 0;
    this.strip = 0;
    this.asked = 0;
    this.items = [];
    this.audio = at("audio");
    this.wanted = 0; // where to go on once the sound is there
    this.drawing = 0;
    at("play").addEventListener("click", () => this.toggle());
    at("speed").addEventListener("change", () => this.setSpeed());
    at("span").addEventListener("change", () => this.showStrip(true));
    for (const radio of document.querySelectorAll('input[name="voice"]')) {
      radio.addEventListener("change", () => this.choose(radio.value));
    }
    for (const name of ["play", "pause", "ended"]) this.audio.addEventListener(name, () => this.showPlaying());
    this.audio.addEventListener("loadedmetadata", () => {
      this.audio.currentTime = this.wanted;
      this.setSpeed();
    });
    this.audio.addEventListener("timeupdate", () => this.follow());
    this.audio.addEventListener("seeked", () => this.follow());
    this.audio.addEventListener("error", () => {
      if (this.audio.getAttribute("src")) this.showNoSound("The recording cannot be played.");
    });
    this.listenToWaveform();
    at("timeline").addEventListener("click", (event) => this.clickTimeline(event));
    new ResizeObserver(() => this.page && this.drawTimeline()).observe(at("timeline"));
    at("legend").replaceChildren(...LEGEND.map((name, index) => el("span", { "data-stage": index }, name)));
  }

  async show(id, query) {
    const asked = (this.asked += 1);
    const leg = query.get("leg") ?? "";
    if (id !== this.id || leg !== this.wantedLeg) this.clear();
    this.id = id;
    this.wantedLeg = leg;
    this.found = (query.get("words") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    let page;
    try {
      page = await ask(this.path(this.wantedLeg ? `?leg=${this.wantedLeg}` : ""));
    } catch (refused) {
      if (asked === this.asked) complain(refused.status === 404 ? "There is no such call." : refused.message);
      return;
    }
    if (asked !== this.asked) return;
    this.page = page;
    this.showCall();
    if (page.sound) await this.loadSound(asked);
    else this.showNoSound(page.no_sound);
  }

  hide() {
    this.asked += 1;
    this.audio.pause();
  }

  path(rest) {
    return `console/calls/${encodeURIComponent(this.id)}${rest}`;
  }

  clear() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.page = null;
    this.length = 0;
    this.wanted = 0;
    this.strip = 0;
    this.detail = null;
    at("waveform").replaceChildren();
    at("timeline").replaceChildren();
    at("turns").replaceChildren();
    say(at("call-heading"), "Call");
    say(at("call-facts"), "");
    at("downloads").replaceChildren();
    at("no-sound").hidden = true;
    at("turns-empty").hidden = true;
  }

  showCall() {
    const { call, entries } = this.page;
    say(at("call-heading"), `${party(call.caller)} → ${party(call.called)}`);
    const length = call.duration_s === null ? "" : clock(call.duration_s);
    const facts = [day(call.began), call.persona, way(call.way), length, `${call.outcome}: ${call.reason}`, call.id];
    say(at("call-facts"), facts.filter(Boolean).join(" · "));
    const leg = `?leg=${this.page.leg}`;
    const links = [[`/transcript.txt${leg}`, "Transcript"], [`/transcript.json${leg}`, "JSON"]];
    if (this.page.sound) links.push([`/audio.wav${leg}`, "Recording"]);
    at("downloads").replaceChildren(
      ...links.map(([path, name]) => el("a", { class: "quiet", href: this.path(path), download: true }, name)),
    );
    at("legs").hidden = this.page.legs.length < 2;
    at("legs").replaceChildren(
      ...this.page.legs.map((one, index) =>
        el("a", { href: `#/calls/${encodeURIComponent(this.id)}?leg=${one}`, "aria-current": one === this.page.leg ? "true" : null }, `Part ${index + 1}`),
      ),
    );
    this.items = entries.map((entry) => this.itemOf(entry, call.persona));
    at("turns").replaceChildren(...this.items.map(({ item }) => item));
    at("turns-empty").hidden = entries.length > 0;
    this.length = call.duration_s ?? 0;
    at("sound").hidden = false;
    this.showTimes();
  }

  itemOf(entry, persona) {
    const item = fill(el("li"), entry, persona, this.found);
    if (this.page.sound && (entry.who === "caller" || entry.who === "agent")) {
      const name = `Play from ${tenths(entry.at_s)}`;
      const button = el("button", { type: "button", "aria-label": name }, `▶ ${tenths(entry.at_s)}`);
      button.addEventListener("click", () => this.playFrom(entry.at_s));
      item.querySelector(".who").append(" ", button);
    }
    return { entry, item };
  }

  showNoSound(why) {
    at("sound").hidden = !this.page?.bars.length;
    for (const one of document.querySelectorAll("#sound .controls, #waveform")) one.hidden = true;
    at("no-sound").hidden = false;
    say(at("no-sound"), why);
    this.detail = null;
    if (this.page) this.showStrip(true);
  }

  async loadSound(asked) {
    for (const one of document.querySelectorAll("#sound .controls, #waveform")) one.hidden = false;
    at("no-sound").hidden = true;
    let outline;
    try {
      outline = await ask(this.path(`/outline?points=${OVERVIEW_POINTS}&leg=${this.page.leg}`));
    } catch (refused) {
      if (asked === this.asked) this.showNoSound(refused.message);
      return;
    }
    if (asked !== this.asked) return;
    this.length = Math.max(outline.length_s, 0.1);
    this.drawWaveform(outline);
    this.showTimes();
    await this.showStrip(true);
  }

  // Sound

  get position() {
    return this.audio.readyState > 0 ? this.audio.currentTime : this.wanted;
  }

  choose(voice) {
    const playing = !this.audio.paused;
    this.wanted = this.position;
    this.audio.src = this.soundOf(voice);
    if (playing) this.audio.play();
  }

  prepare() {
    if (this.audio.getAttribute("src")) return;
    this.audio.src = this.soundOf(document.querySelector('input[name="voice"]:checked').value);
  }

  soundOf(voice) {
    return this.path(`/audio.wav?voice=${voice}&leg=${this.page.leg}`);
  }

  setSpeed() {
    this.audio.playbackRate = Number(at("speed").value);
  }

  toggle() {
    if (!this.audio.paused) {
      this.audio.pause();
      return;
    }
    if (this.position >= this.length - 0.05) this.seek(0);
    this.play();
  }

  play() {
    this.prepare();
    this.audio.play().catch(() => this.showPlaying());
  }

  playFrom(second) {
    this.seek(second);
    this.play();
  }

  seek(second) {
    const to = Math.min(Math.max(0, second), this.length);
    this.wanted = to;
    if (this.audio.readyState > 0) this.audio.currentTime = to;
    this.follow();
  }

  showPlaying() {
    const playing = !this.audio.paused && !this.audio.ended;
    at("play").setAttribute("aria-pressed", playing);
    say(at("play-sign"), playing ? "❚❚" : "▶");
    say(at("play-text"), playing ? "Pause" : "Play");
    cancelAnimationFrame(this.drawing);
    if (playing) this.glide();
  }

  glide() {
    this.follow();
    this.drawing = requestAnimationFrame(() => this.glide());
  }

  follow() {
    if (!this.page) return;
    this.showTimes();
    this.showStrip(false);
    this.moveCursors();
  }

  showTimes() {
    const { position } = this;
    say(at("position"), tenths(position));
    say(at("length"), tenths(this.length));
    const slider = at("waveform");
    slider.setAttribute("aria-valuemax", this.length.toFixed(1));
    slider.setAttribute("aria-valuenow", position.toFixed(1));
    slider.setAttribute("aria-valuetext", `${tenths(position)} of ${tenths(this.length)}`);
    const begun = this.items.filter(({ entry }) => entry.at_s <= position + 0.05);
    const now = position > 0 ? begun.at(-1) : null;
    for (const one of this.items) if ((one.item.dataset.now === "true") !== (one === now)) one.item.dataset.now = one === now;
  }

  // The whole call

  drawWaveform({ caller, agent }) {
    const picture = svg("svg", { viewBox: `0 0 ${Math.max(1, caller.length)} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
    picture.append(
      svg("rect", { class: "window", y: 0, height: 100, x: 0, width: 0 }),
      svg("path", { class: "sound caller", d: shapeOf(caller, 0, 1, 26, 24) }),
      svg("path", { class: "sound agent", d: shapeOf(agent, 0, 1, 76, 24) }),
      svg("line", { class: "cursor", y1: 0, y2: 100 }),
    );
    this.points = Math.max(1, caller.length);
    at("waveform").replaceChildren(picture);
    this.moveCursors();
  }

  listenToWaveform() {
    const slider = at("waveform");
    const seek = (event) => {
      const box = slider.getBoundingClientRect();
      this.seek((this.length * (event.clientX - box.left)) / box.width);
    };
    slider.addEventListener("pointerdown", (event) => {
      slider.setPointerCapture(event.pointerId);
      seek(event);
    });
    slider.addEventListener("pointermove", (event) => slider.hasPointerCapture(event.pointerId) && seek(event));
    slider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -20, PageUp: 20 }[event.key];
      if (step) this.seek(this.position + step);
      else if (event.key === "Home") this.seek(0);
      else if (event.key === "End") this.seek(this.length);
      else if (event.key === " ") this.toggle();
      else return;
      event.preventDefault();
    });
  }

  moveCursors() {
    const overview = at("waveform").querySelector(".cursor");
    if (overview) {
      const x = (this.points * this.position) / this.length;
      overview.setAttribute("x1", x);
      overview.setAttribute("x2", x);
      const shown = at("waveform").querySelector(".window");
      shown.setAttribute("x", (this.points * this.from) / this.length || 0);
      shown.setAttribute("width", Math.min(this.points, (this.points * this.span) / this.length));
    }
    const detail = at("timeline").querySelector(".cursor");
    if (detail) {
      const x = this.x(this.position);
      detail.setAttribute("x1", x);
      detail.setAttribute("x2", x);
    }
  }

  // A strip of it, like one line of a text: it goes on to the next when the position does

  get span() {
    return Number(at("span").value);
  }

  get from() {
    return this.strip * this.span;
  }

  async showStrip(anew) {
    const strip = Math.floor(Math.min(this.position, Math.max(0, this.length - 0.01)) / this.span);
    if (strip === this.strip && !anew) return;
    this.strip = strip;
    this.detail = null;
    this.drawTimeline();
    this.moveCursors();
    if (!this.page?.sound || !at("no-sound").hidden) return;
    const { asked, from, span } = this;
    try {
      const detail = await ask(this.path(`/outline?since=${from}&until=${from + span}&points=1000&leg=${this.page.leg}`));
      if (asked !== this.asked || from !== this.from || span !== this.span) return;
      this.detail = detail;
      this.drawTimeline();
      this.moveCursors();
    } catch (refused) {
      complain(`The outline cannot be read: ${refused.message}`);
    }
  }

  x(second) {
    return ((second - this.from) / this.span) * this.width;
  }

  drawTimeline() {
    const box = at("timeline");
    this.width = Math.max(200, box.clientWidth - 2 * parseFloat(getComputedStyle(box).paddingLeft));
    const { from, span, width } = this;
    const until = from + span;
    const within = (a, b) => b >= from && a < until;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
    picture.setAttribute("aria-label", `Timeline from ${tenths(from)} to ${tenths(until)}; the same is in the turns below`);
    const step = niceStep((span * 70) / width);
    for (let second = Math.ceil(from / step) * step; second < until; second += step) {
      const x = this.x(second);
      picture.append(svg("line", { class: "tick", x1: x, x2: x, y1: 24, y2: HEIGHT - 18 }));
      picture.append(svg("text", { x: x + 2, y: HEIGHT - 4 }, clock(second)));
    }
    for (const [, a, b] of this.page.gaps) {
      if (within(a, b)) picture.append(svg("rect", { class: "gap", x: this.x(a), width: Math.max(1, this.x(b) - this.x(a)), y: LANES_TOP - 4, height: 6 * LANE + 6 }));
    }
    if (this.detail) {
      const scale = width * (this.detail.point_s / span);
      picture.append(
        svg("path", { class: "sound caller", d: shapeOf(this.detail.caller, 0, scale, CALLER_MIDDLE, HALF) }),
        svg("path", { class: "sound agent", d: shapeOf(this.detail.agent, 0, scale, AGENT_MIDDLE, HALF) }),
      );
    }
    for (const [, stage, a, b] of this.page.bars) {
      if (!within(a, b)) continue;
      const left = Math.max(0, this.x(a));
      const wide = Math.max(2, Math.min(width, this.x(b)) - left);
      const y = LANES_TOP + stage * LANE;
      const ms = Math.round((b - a) * 1000);
      const text = ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
      const bar = svg("rect", { class: "bar-of", "data-stage": stage, x: left, width: wide, y, height: LANE - 3, rx: 2 });
      bar.append(svg("title", {}, `${LEGEND[stage]}: ${text}`));
      picture.append(bar);
      if (left + wide + 45 < width) picture.append(svg("text", { x: left + wide + 3, y: y + LANE - 4 }, text));
    }
    for (const cut of this.page.cuts) {
      if (!within(cut, cut)) continue;
      picture.append(svg("line", { class: "cut-at", x1: this.x(cut), x2: this.x(cut), y1: 30, y2: HEIGHT - 26 }));
      const late = this.x(cut) > width - 70;
      const place = { x: this.x(cut) + (late ? -3 : 3), y: AGENT_MIDDLE - HALF + 2, "text-anchor": late ? "end" : "start" };
      picture.append(svg("text", place, "interrupted"));
    }
    this.drawWords(picture, "caller", 14);
    this.drawWords(picture, "agent", HEIGHT - 20);
    picture.append(svg("line", { class: "cursor", y1: 0, y2: HEIGHT }));
    box.replaceChildren(picture);
    this.moveCursors();
  }

  drawWords(picture, who, y) {
    const said = this.page.entries.filter((entry) => entry.who === who);
    said.forEach((entry, index) => {
      const next = said[index + 1]?.at_s ?? Infinity;
      if (entry.at_s >= this.from + this.span || next <= this.from || entry.at_s < this.from - this.span) return;
      const x = Math.max(0, this.x(entry.at_s));
      const room = Math.floor((Math.min(this.x(next), this.width) - x - 8) / CHARACTER_PX);
      if (room < 4) return;
      const text = entry.text.length > room ? `${entry.text.slice(0, room - 1)}…` : entry.text;
      picture.append(svg("text", { class: "said", x, y }, text));
    });
  }

  clickTimeline(event) {
    const picture = at("timeline").firstElementChild;
    if (!picture || !this.page?.sound) return;
    const box = picture.getBoundingClientRect();
    this.playFrom(this.from + (this.span * (event.clientX - box.left)) / box.width);
  }
}

// Loudness 0..255 at places `scale` apart as a closed shape around `middle`. Speech is soft for most of the time:
// the root shows it.
function shapeOf(loudness, left, scale, middle, half) {
  const upper = [];
  const lower = [];
  loudness.forEach((value, index) => {
    const x = (left + index * scale).toFixed(1);
    const y = Math.max(0.4, half * Math.sqrt(value / 255));
    upper.push(`${x} ${(middle - y).toFixed(1)}`);
    lower.push(`${x} ${(middle + y).toFixed(1)}`);
  });
  return upper.length ? `M${upper.join("L")}L${lower.reverse().join("L")}Z` : "";
}

function niceStep(least) {
  return [0.5, 1, 2, 5, 10, 20, 30, 60].find((step) => step >= least) ?? 60;
}

