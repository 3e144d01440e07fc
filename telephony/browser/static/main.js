// Brings the page, the conversation and the call together.

import { Call } from "./call.js";
import { hear, newConversation } from "./conversation.js";
import { ending, microphonePermission, TalkError } from "./errors.js";
import { View } from "./view.js";

let title = "Maya";
let call = null;
let conversation = null;
let begun = 0;
let muted = false;
let levels = { mic: 0, agent: 0 };

const view = new View({ onCall, onHangUp: () => call?.hangUp(), onMute, onKey, onLogin });

async function onCall(clickedAt) {
  if (call) return;
  view.clearError();
  view.startConversation();
  conversation = newConversation();
  begun = 0;
  muted = false;
  view.show("call");
  view.showPhase("calling");
  view.focus("hang-up");
  microphonePermission().then((state) => {
    if (state === "prompt" && conversation.phase === "calling") view.showPhase("asking");
  });
  call = new Call(onEvent, clickedAt);
  await call.place();
}

function onEvent(message) {
  if (message.event === "over") {
    onOver(message);
    return;
  }
  if (message.event === "greeted") view.showGreeted(message.ms);
  if (message.event === "ready") {
    begun = performance.now();
    view.showPersona(message.persona === title ? "" : message.persona);
    view.announce(`Connected with ${message.persona}`);
  }
  if (message.event === "levels") levels = message;
  const changed = hear(conversation, message, performance.now());
  if (changed) view.showEntries(conversation.entries, title);
  if (message.event !== "levels") view.showPaused(conversation.recordingPaused);
}

async function onOver({ reason, error }) {
  const { phase } = conversation;
  call = null;
  view.show("idle");
  view.showPaused(false);
  const end = error ? { error } : ending(reason);
  view.announce(end.text ?? "The call has ended");
  if (end.error) {
    view.showPhase(phase === "calling" ? "failed" : "broken");
    view.showError(end.error);
  } else {
    view.showPhase("over", { text: end.text });
  }
  view.showCallAgain();
  view.focus("call");
  // The handshake does not tell why it was refused; a login that has expired is one reason.
  if (end.error?.kind === "unreachable") await enter();
}

function onMute(now) {
  muted = now;
  call?.mute(now);
}

function onKey(digit) {
  call?.press(digit);
  view.flashKey(digit);
}

async function onLogin(password) {
  view.showRefusal("");
  let answer;
  try {
    answer = await fetch("talk/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ password }),
    });
  } catch {
    view.showRefusal("The server cannot be reached. Try again in a moment.");
    return;
  }
  if (answer.ok) {
    view.show("idle");
    view.focus("call");
  } else if (answer.status === 429) {
    view.showRefusal(`Too many tries. Wait ${answer.headers.get("Retry-After")} seconds.`);
  } else if (answer.status === 401) {
    view.showRefusal("That is not the password.");
  } else {
    view.showRefusal("The server refused this page. Load it again at its public address.");
  }
}

// Learn who answers, and whether a login comes first.
async function enter() {
  try {
    const answer = await fetch("talk/session");
    const session = await answer.json();
    title = session.title;
    view.showTitle(title);
    view.show(session.logged_in ? "idle" : "login");
    if (!session.logged_in) view.focusPassword();
    else if (!navigator.mediaDevices) view.showError(new TalkError(window.isSecureContext ? "old" : "insecure"));
  } catch {
    view.show("idle");
    view.showError(new TalkError("unreachable"));
  }
}

function shownPhase() {
  if (conversation.phase !== "listening") return conversation.phase;
  if (muted) return "muted";
  return conversation.deaf ? "deaf" : "listening";
}

function draw() {
  requestAnimationFrame(draw);
  if (!call || !conversation) return;
  view.showLevels(muted ? 0 : levels.mic, levels.agent);
  if (begun) {
    view.showClock((performance.now() - begun) / 1000);
    view.showPhase(shownPhase(), conversation);
  }
}

window.addEventListener("pagehide", () => call?.hangUp());
enter();
draw();
