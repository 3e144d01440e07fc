// The page's elements: shows what conversation.js holds, and knows nothing of calls.

import { heardAndLost, STAGES } from "./conversation.js";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const LETTERS = { 2: "ABC", 3: "DEF", 4: "GHI", 5: "JKL", 6: "MNO", 7: "PQRS", 8: "TUV", 9: "WXYZ" };
const KEY_NAMES = { "*": "star", "#": "hash" };
const BAR_FULL_MS = 3000;
const PHASES = {
  idle: ["Ready when you are", "Click Call and talk as you would on the phone. Interrupt whenever you like."],
  asking: ["Calling …", "If your browser asks, allow the microphone."],
  calling: ["Calling …", ""],
  listening: ["Listening", "Go on, it is your turn."],
  thinking: ["Thinking …", "One moment."],
  speaking: ["Speaking", "Talk over it to interrupt."],
  muted: ["You are muted", "Nobody hears you."],
  deaf: ["Listening", "Your microphone sends only silence. Is it switched off?"],
  over: ["The call has ended", "Click Call again to talk once more."],
  failed: ["The call did not go through", ""],
  broken: ["The call broke off", ""],
};

const at = (id) => document.getElementById(id);

export class View {
  constructor({ onCall, onHangUp, onMute, onKey, onLogin }) {
    this.shown = new Map(); // entry -> { item, said }
    at("call").addEventListener("click", (event) => onCall(event.timeStamp));
    at("hang-up").addEventListener("click", onHangUp);
    at("mute").addEventListener("click", () => {
      const muted = at("mute").getAttribute("aria-pressed") !== "true";
      this.showMuted(muted);
      onMute(muted);
    });
    at("keys").addEventListener("click", () => this.openKeypad(at("keypad").hidden));
    at("login").addEventListener("submit", (event) => {
      event.preventDefault();
      onLogin(at("password").value);
    });
    this.fillKeypad(onKey);
    this.fillLegend();
    // A keyboard's digits are keys too while the pad is open.
    document.addEventListener("keydown", (event) => {
      if (at("keypad").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
      if (KEYS.includes(event.key)) onKey(event.key);
      else if (event.key === "Escape") this.openKeypad(false);
    });
    this.conversationList = at("entries");
    // The keypad takes some of its room: what was said last is what matters.
    new ResizeObserver(() => this.scrollToEnd()).observe(this.conversationList);
  }

  // view: "loading", "login", "idle", "call"
  show(view) {
    document.body.dataset.view = view;
    at("clock").hidden = view !== "call" && at("clock").textContent === "0:00";
    if (view !== "call") {
      this.openKeypad(false);
      this.showMuted(false);
      this.showLevels(0, 0);
    }
  }

  showCallAgain() {
    at("call-text").textContent = "Call again";
  }

  showTitle(title) {
    at("title").textContent = title;
    at("agent-name").textContent = title;
    document.title = `Talk with ${title}`;
  }

  showPersona(persona) {
    at("persona").textContent = persona;
  }

  showPhase(phase, { turnedDown = false, text } = {}) {
    if (this.phase === phase && this.turnedDown === turnedDown && !text) return;
    this.phase = phase;
    this.turnedDown = turnedDown;
    const [title, hint] = PHASES[phase];
    document.body.dataset.phase = phase;
    document.body.dataset.down = turnedDown;
    at("phase").textContent = text || title;
    at("hint").textContent = turnedDown && phase === "speaking" ? "Turned down: I hear you." : hint;
  }

  announce(text) {
    at("announcement").textContent = text;
  }

  showPaused(paused) {
    at("paused").hidden = !paused;
  }

  showClock(seconds) {
    const whole = Math.floor(seconds);
    at("clock").textContent = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
    at("clock").hidden = false;
  }

  showLevels(mic, agent) {
    const levels = { caller: mic, agent };
    for (const [who, rms] of Object.entries(levels)) {
      // -60 dBFS is empty, -12 dBFS full.
      const level = rms > 0 ? Math.min(1, Math.max(0, (20 * Math.log10(rms) + 60) / 48)) : 0;
      at(`${who}-level`).style.transform = `scaleX(${level.toFixed(3)})`;
      at(`${who}-halo`).style.transform = `scale(${(1 + 0.55 * level).toFixed(3)})`;
    }
  }

  showError({ title, advice }) {
    const strong = document.createElement("strong");
    strong.textContent = title;
    const words = document.createElement("span");
    words.textContent = advice;
    at("alert").replaceChildren(strong, words);
  }

  clearError() {
    at("alert").replaceChildren();
  }

  showRefusal(text) {
    at("login-refusal").textContent = text;
    if (text) at("password").select();
  }

  focusPassword() {
    at("password").focus();
  }

  focus(id) {
    at(id).focus({ preventScroll: true });
  }

  showGreeted(ms) {
    at("greeted").textContent = `The greeting was heard ${seconds(ms)} after your click.`;
    document.body.dataset.greetedMs = Math.round(ms);
    at("legend").hidden = false;
  }

  showMuted(muted) {
    at("mute").setAttribute("aria-pressed", muted);
    at("mute").lastElementChild.textContent = muted ? "Unmute" : "Mute";
  }

  openKeypad(open) {
    at("keypad").hidden = !open;
    at("keys").setAttribute("aria-expanded", open);
  }

  flashKey(digit) {
    const key = at("keypad").querySelector(`[data-digit="${digit}"]`);
    key.classList.add("pressed");
    setTimeout(() => key.classList.remove("pressed"), 150);
  }

  startConversation() {
    this.shown.clear();
    this.conversationList.replaceChildren();
    at("empty").hidden = false;
    at("clock").textContent = "0:00";
    at("greeted").textContent = "";
    delete document.body.dataset.greetedMs;
  }

  // Shows entries that are new or have changed, and drops those that are gone.
  showEntries(entries, agent) {
    const list = this.conversationList;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    for (const [entry, item] of this.shown) {
      if (!entries.includes(entry)) {
        item.remove();
        this.shown.delete(entry);
      }
    }
    for (const entry of entries) {
      let item = this.shown.get(entry);
      const state = JSON.stringify(entry);
      if (item?.dataset.state === state) continue;
      if (!item) {
        item = document.createElement("li");
        this.shown.set(entry, item);
        list.append(item);
      }
      item.dataset.state = state;
      item.className = entry.who;
      item.replaceChildren(...this.partsOf(entry, agent));
    }
    at("empty").hidden = entries.length > 0;
    if (atEnd) this.scrollToEnd();
  }

  scrollToEnd() {
    this.conversationList.scrollTop = this.conversationList.scrollHeight;
  }

  partsOf(entry, agent) {
    const who = { caller: "You", agent, keys: "You pressed" }[entry.who];
    const words = tagged("p", "words");
    if (entry.who === "agent") {
      const [heard, lost] = heardAndLost(entry);
      words.append(heard);
      if (entry.interrupted) {
        if (lost) {
          const rest = tagged("s", "", lost);
          rest.title = "Not heard any more";
          words.append(" ", rest);
        }
        return [tagged("p", "who", who), words, tagged("p", "cut", "you interrupted"), ...barOf(entry)];
      }
    } else {
      words.append(entry.text);
    }
    return [tagged("p", "who", who), words, ...barOf(entry)];
  }

  fillKeypad(onKey) {
    for (const digit of KEYS) {
      const key = tagged("button", "");
      key.type = "button";
      key.dataset.digit = digit;
      if (KEY_NAMES[digit]) key.setAttribute("aria-label", KEY_NAMES[digit]);
      key.append(tagged("span", "", digit), tagged("small", "", LETTERS[digit] ?? ""));
      key.addEventListener("click", () => onKey(digit));
      at("keypad").append(key);
    }
  }

  fillLegend() {
    STAGES.forEach(([, name], index) => {
      const item = tagged("li", "", name);
      item.dataset.stage = index;
      at("stages").append(item);
    });
  }
}

// The parts of one wait, drawn to one scale for all turns; the same in words for whoever asks.
function barOf({ stages }) {
  if (!stages) return [];
  const known = STAGES.map(([key, name], index) => ({ name, index, ms: stages[key] ?? 0 }));
  const total = known.reduce((sum, stage) => sum + stage.ms, 0);
  const details = document.createElement("details");
  details.className = "wait";
  const summary = document.createElement("summary");
  const bar = tagged("span", "stages");
  bar.setAttribute("aria-hidden", "true");
  const scale = Math.max(total, BAR_FULL_MS);
  const list = tagged("ul", "");
  for (const { name, index, ms } of known) {
    const part = document.createElement("i");
    part.dataset.stage = index;
    part.style.width = `${(100 * Math.max(0, ms)) / scale}%`;
    bar.append(part);
    const line = tagged("li", "", name);
    line.dataset.stage = index;
    line.append(tagged("data", "", `${Math.round(ms)} ms`));
    list.append(line);
  }
  summary.append(bar, tagged("span", "total", seconds(total)));
  summary.setAttribute("aria-label", `Answered after ${seconds(total)}; show the parts`);
  details.append(summary, list);
  details.addEventListener("toggle", () => details.open && details.scrollIntoView({ block: "nearest" }));
  return [details];
}

function tagged(name, className, text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}
