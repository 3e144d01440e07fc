// What can go wrong, and what the caller can do about it.

const ADVICE = {
  blocked: [
    "The microphone is blocked",
    "Allow it for this page: click the icon to the left of the address, set Microphone to Allow, and call again.",
  ],
  dismissed: [
    "The microphone was not allowed",
    "Call again, and answer the browser's question with Allow. Your voice goes to this server only.",
  ],
  absent: [
    "No microphone was found",
    "Plug one in, or switch on your headset, and call again.",
  ],
  taken: [
    "The microphone cannot be opened",
    "Another program may be using it. Close that program, or choose another microphone in the browser's settings, and call again.",
  ],
  gone: [
    "The microphone is gone",
    "It was unplugged or taken away while you talked. Plug it in again, and call again.",
  ],
  insecure: [
    "Browsers give the microphone to secure pages only",
    "Open this page by its https:// address, or as http://localhost on the machine that the server runs on.",
  ],
  old: [
    "This browser cannot make calls",
    "It lacks AudioWorklet. A current Firefox, Chrome, Edge or Safari has it.",
  ],
  page: ["The page could not start its telephone", "Load the page again."],
  unreachable: [
    "The server cannot be reached",
    "It may be starting again. Wait a moment, check your network, and call again.",
  ],
  lost: ["The connection was lost", "Check your network, and call again. What was said so far stays below."],
  busy: ["All lines are busy", "Somebody else is talking. Call again in a few minutes."],
  failed: ["Something went wrong at the server", "We are sorry. Call again in a moment; the server's log says more."],
  silent: ["No sound came from your microphone", "The page's audio stopped. Keep the page in front, and call again."],
  restarting: ["The server is being restarted", "Call again in a minute."],
};

export class TalkError extends Error {
  constructor(kind, cause) {
    const [title, advice] = ADVICE[kind] ?? ADVICE.failed;
    super(title, { cause });
    this.kind = kind;
    this.title = title;
    this.advice = advice;
  }

  static async ofMicrophone(error) {
    switch (error.name) {
      case "NotAllowedError":
      case "SecurityError":
        return new TalkError((await microphonePermission()) === "denied" ? "blocked" : "dismissed", error);
      case "NotFoundError":
      case "OverconstrainedError":
        return new TalkError("absent", error);
      default:
        return new TalkError("taken", error);
    }
  }
}

// "granted", "prompt" or "denied"; "" where the browser does not tell.
export async function microphonePermission() {
  try {
    return (await navigator.permissions.query({ name: "microphone" })).state;
  } catch {
    return "";
  }
}

// How the call's last word reads: { text } where all is well, { error } where it is not.
export function ending(reason) {
  switch (reason) {
    case "caller hung up":
      return { text: "You hung up." };
    case "goodbye":
      return { text: "The agent said goodbye." };
    case "silence":
      return { text: "Nobody spoke, so the agent hung up." };
    case "limit":
      return { text: "The longest time for a call was over." };
    case "transferred":
      return { text: "The call was passed on." };
    case "busy":
      return { error: new TalkError("busy") };
    case "shutdown":
    case "server shut down":
      return { error: new TalkError("restarting") };
    case "connection lost":
      return { error: new TalkError("lost") };
    default:
      if (reason.startsWith("no media")) return { error: new TalkError("silent") };
      if (reason.includes("load it again")) return { error: new TalkError("page") };
      return { error: new TalkError("failed") };
  }
}
