// The stream of what is on. Only a page that is looked at has one: browsers allow few per server.

import { ask } from "./dom.js";

const AGAIN_MS = [500, 1000, 2000, 5000];

export class Feed {
  // onMessage(message) gets what the server tells; onState("open" | "lost")
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.source = null;
    this.call = "";
    this.wanted = false;
    this.tries = 0;
    this.timer = 0;
    document.addEventListener("visibilitychange", () => this.adjust());
    window.addEventListener("pagehide", () => this.shut());
    window.addEventListener("pageshow", () => this.adjust());
  }

  // Watch the house, and the transcript of `call` if that is not "".
  watch(call) {
    if (this.wanted && this.call === call && this.source) return;
    this.wanted = true;
    this.call = call;
    this.shut();
    this.adjust();
  }

  stop() {
    this.wanted = false;
    this.adjust();
  }

  adjust() {
    if (!this.wanted || document.hidden) this.shut();
    else if (!this.source) this.open();
  }

  shut() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  open() {
    const source = new EventSource(`console/live?call=${encodeURIComponent(this.call)}`);
    this.source = source;
    source.onmessage = (event) => {
      if (this.source !== source) return;
      this.tries = 0;
      this.onState("open");
      this.onMessage(JSON.parse(event.data));
    };
    source.onerror = () => {
      if (this.source !== source) return;
      this.shut();
      this.onState("lost");
      this.timer = setTimeout(() => this.again(), AGAIN_MS[Math.min(this.tries, AGAIN_MS.length - 1)]);
      this.tries += 1;
    };
  }

  // The stream does not tell why it ended; a login that has ended is one reason.
  async again() {
    try {
      await ask("console/me");
    } catch {
      // ask() has led to the login, or the server is away: opening fails, and we come here again.
    }
    this.adjust();
  }
}
