// What the page shows of a call, without any of the page: events go in, one plain object comes out.

export const STAGES = [
  ["endpoint_wait_ms", "Waiting for the end of your turn"],
  ["transcription_ms", "Understanding your words"],
  ["first_token_ms", "First word of an answer"],
  ["first_clause_ms", "First clause"],
  ["first_audio_ms", "First sound"],
  ["playout_ms", "On its way to your ear"],
];

const SPEAKING_LEVEL = 0.01; // -40 dBFS
const THINKING_LIMIT_MS = 8000;
const SILENT_LEVEL = 1e-5; // -100 dBFS: no microphone that is switched on is so quiet
const DEAF_AFTER_MS = 6000;
const BREATH_MS = 700; // between two clauses of one reply

export function newConversation() {
  return {
    phase: "calling",
    persona: "",
    turnedDown: false,
    recordingPaused: false,
    entries: [],
    thinkingSince: 0,
    soundedAt: 0, // when something of the agent's voice was last to be heard
    silentSince: null, // null once the microphone has made a sound
    deaf: false, // the microphone has been silent since the call began
  };
}

// Changes `conversation`, and returns whether an entry changed. `now` is milliseconds on any clock.
export function hear(conversation, message, now) {
  switch (message.event) {
    case "ready":
      conversation.persona = message.persona;
      conversation.phase = "listening";
      conversation.silentSince = now;
      return false;
    case "levels":
      follow(conversation, message, now);
      return false;
    case "caller_spoke":
      if (conversation.phase === "listening") think(conversation, now);
      return false;
    case "caller_turn":
      // When the caller goes on, the answer to the first part was dropped before it was heard.
      conversation.entries = conversation.entries.filter((e) => e.who !== "agent" || e.turn !== message.turn || e.done);
      entryOf(conversation, "caller", message.turn).text = message.text;
      if (conversation.phase === "listening") think(conversation, now);
      return true;
    case "agent_clause":
      entryOf(conversation, "agent", message.turn).clauses.push(message.text);
      return true;
    case "agent_turn":
      closeTurn(conversation, message);
      return true;
    case "turned_down":
      conversation.turnedDown = message.down;
      return false;
    case "recording":
      conversation.recordingPaused = message.paused;
      return false;
    case "key":
      pressed(conversation, message.digit);
      return true;
    default:
      return false;
  }
}

function think(conversation, now) {
  conversation.phase = "thinking";
  conversation.thinkingSince = now;
}

function follow(conversation, { mic, queued }, now) {
  if (conversation.phase === "calling") return;
  if (mic > SILENT_LEVEL) conversation.silentSince = null;
  conversation.deaf = conversation.silentSince !== null && now - conversation.silentSince > DEAF_AFTER_MS;
  if (queued > 0) {
    conversation.phase = "speaking";
    conversation.soundedAt = now;
  } else if (conversation.phase === "speaking") {
    const replying = conversation.entries.some((entry) => entry.who === "agent" && !entry.done);
    if (!replying || now - conversation.soundedAt > BREATH_MS) conversation.phase = "listening";
  } else if (conversation.phase === "thinking") {
    // The caller goes on, or what was heard held no words.
    if (mic > SPEAKING_LEVEL || now - conversation.thinkingSince > THINKING_LIMIT_MS) conversation.phase = "listening";
  }
}

// A turn that goes on comes again under its number, and has but one entry.
function entryOf(conversation, who, turn) {
  const found = conversation.entries.findLast((entry) => entry.who === who && entry.turn === turn && !entry.done);
  if (found) return found;
  const entry = { who, turn, text: "", clauses: [], done: false, interrupted: false, heard: "", stages: null };
  conversation.entries.push(entry);
  return entry;
}

function closeTurn(conversation, message) {
  // A reply that is cut off while it is turned down is not turned up again.
  conversation.turnedDown = false;
  // Cut off before its first clause it was never seen.
  if (!message.text && !message.heard) return;
  const entry = entryOf(conversation, "agent", message.turn);
  entry.done = true;
  entry.text = message.text;
  entry.heard = message.heard;
  entry.interrupted = message.interrupted;
  entry.stages = Object.keys(message.stages).length > 0 ? message.stages : null;
}

function pressed(conversation, digit) {
  const last = conversation.entries.at(-1);
  if (last?.who === "keys") last.text += digit;
  else conversation.entries.push({ who: "keys", text: digit });
}

// What of an agent's entry is shown as heard, and what as not heard.
export function heardAndLost(entry) {
  if (!entry.done) return [entry.clauses.join(" "), ""];
  if (!entry.interrupted) return [entry.text, ""];
  if (entry.text.startsWith(entry.heard)) return [entry.heard, entry.text.slice(entry.heard.length).trim()];
  return [entry.heard, ""];
}
