// One call: the telephone at this end, the WebSocket to the server (telephony/browser/protocol.py), and the
// events between them. `place()` once; `hangUp()` at any time.

import { microphonePermission, TalkError } from "./errors.js";
import { Telephone } from "./telephone.js";

const VERSION = 1;
const LINE_HZ = 8000;
const HEADER_BYTES = 4;
const STALLED_BYTES = 40_000; // 4 s of packets that the network has not taken

export class Call {
  // `tell(event)` gets the server's events, and from here: { event: "levels", mic, agent, queued } every 20 ms,
  // { event: "greeted", ms } when the first sound is heard, { event: "over", reason } or { event: "over", error }
  // exactly once, at the end.
  constructor(tell, clickedAt) {
    this.tell = tell;
    this.clickedAt = clickedAt;
    this.sample = 0;
    this.over = false;
    this.telephone = new Telephone((data) => this.fromTelephone(data));
  }

  async place() {
    try {
      // With the microphone allowed already both take moments, and go side by side. While the browser still asks,
      // the server need not wait.
      if ((await microphonePermission()) === "granted") {
        await Promise.all([this.telephone.open(), this.connect()]);
      } else {
        await this.telephone.open();
        await this.connect();
      }
    } catch (error) {
      this.end({ error });
      return;
    }
    if (!this.over) this.send({ event: "start", version: VERSION });
    this.started = true;
  }

  hangUp() {
    this.send({ event: "stop" });
    this.end({ reason: "caller hung up" });
  }

  press(digit) {
    this.send({ event: "key", digit });
  }

  mute(muted) {
    this.telephone.mute(muted);
  }

  connect() {
    const address = new URL("talk/media", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = ({ data }) => this.fromServer(data);
    return new Promise((resolve, reject) => {
      socket.onclose = () => reject(new TalkError("unreachable"));
      socket.onopen = () => {
        socket.onclose = () => this.end({ reason: this.lastWord ?? "connection lost" });
        resolve();
      };
    });
  }

  fromServer(data) {
    if (this.over) return;
    if (typeof data !== "string") {
      this.telephone.play(data);
      return;
    }
    const message = JSON.parse(data);
    if (message.event === "mark") this.telephone.mark(message.id);
    else if (message.event === "clear") this.telephone.clear();
    else if (message.event === "ended") this.lastWord = message.reason;
    else this.tell(message);
  }

  fromTelephone(data) {
    if (this.over) return;
    if (data.packet) {
      this.sendPacket(data.packet);
      this.tell({ event: "levels", mic: data.micLevel, agent: data.playLevel, queued: data.queued });
    } else if (data.mark !== undefined) {
      this.send({ event: "mark", id: data.mark, heard: data.heard });
    } else if (data.audibleAt !== undefined) {
      this.tell({ event: "greeted", ms: this.telephone.heardAt(data.audibleAt) - this.clickedAt });
    } else if (data.interruptedMs !== undefined) {
      this.sample += Math.round((data.interruptedMs * LINE_HZ) / 1000);
    } else if (data.gone) {
      this.send({ event: "stop" });
      this.end({ error: new TalkError("gone") });
    }
  }

  sendPacket(mulaw) {
    const first = this.sample;
    this.sample += mulaw.length;
    // What the network does not take is left out; the server fills it with silence by the number.
    if (!this.started || this.socket.readyState !== WebSocket.OPEN) return;
    if (this.socket.bufferedAmount > STALLED_BYTES) return;
    const message = new Uint8Array(HEADER_BYTES + mulaw.length);
    new DataView(message.buffer).setUint32(0, first);
    message.set(mulaw, HEADER_BYTES);
    this.socket.send(message);
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  end(how) {
    if (this.over) return;
    this.over = true;
    this.telephone.close();
    this.socket?.close(1000);
    this.tell({ event: "over", ...how });
  }
}
