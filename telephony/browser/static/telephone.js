// Microphone and loudspeaker of one call. `open()` first; `close()` gives the microphone back.

import { TalkError } from "./errors.js";

export class Telephone {
  // `on` is called with each message of the worklet (see telephone-worklet.js), and with { gone: true } when the
  // microphone disappears, { interruptedMs } when the audio had stopped for so long.
  constructor(on) {
    this.on = on;
    this.stoppedAt = null;
  }

  // Raises TalkError. Call it from a click: browsers keep audio silent otherwise.
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new TalkError(window.isSecureContext ? "old" : "insecure");
    if (!window.AudioWorkletNode) throw new TalkError("old");
    this.context = new AudioContext({ latencyHint: "interactive" });
    const microphone = this.openMicrophone();
    // Whichever fails first is told; the other one must not stay behind unheard.
    const settled = await Promise.allSettled([microphone, this.openWorklet(), this.context.resume()]);
    const failed = settled.find((one) => one.status === "rejected");
    if (failed) {
      this.close();
      throw failed.reason;
    }
    this.source = new MediaStreamAudioSourceNode(this.context, { mediaStream: this.stream });
    this.source.connect(this.node).connect(this.context.destination);
    this.context.onstatechange = () => this.stateChanged();
  }

  async openMicrophone() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch (error) {
      throw await TalkError.ofMicrophone(error);
    }
    if (this.closed) this.stopTracks();
    for (const track of this.stream.getTracks()) track.onended = () => this.on({ gone: true });
  }

  async openWorklet() {
    try {
      await this.context.audioWorklet.addModule(new URL("telephone-worklet.js", import.meta.url));
    } catch (error) {
      throw new TalkError("page", error);
    }
    this.node = new AudioWorkletNode(this.context, "telephone", {
      channelCount: 1,
      channelCountMode: "explicit",
      outputChannelCount: [1],
    });
    this.node.port.onmessage = ({ data }) => this.on(data);
  }

  play(mulaw) {
    this.node.port.postMessage({ play: new Uint8Array(mulaw) });
  }

  mark(id) {
    this.node.port.postMessage({ mark: id });
  }

  clear() {
    this.node.port.postMessage({ clear: true });
  }

  mute(muted) {
    this.node.port.postMessage({ mute: muted });
  }

  // When a moment of the context's clock is heard, in milliseconds as `performance.now()` counts.
  heardAt(contextSeconds) {
    const { contextTime, performanceTime } = this.context.getOutputTimestamp();
    if (performanceTime > 0) return performanceTime + 1000 * (contextSeconds - contextTime);
    const latency = this.context.outputLatency || this.context.baseLatency || 0;
    return performance.now() + 1000 * (contextSeconds - this.context.currentTime + latency);
  }

  // Phones stop a page's audio while their screen is locked, or while they ring.
  stateChanged() {
    if (this.closed) return;
    if (this.context.state !== "running") {
      this.stoppedAt ??= performance.now();
      this.context.resume().catch(() => {});
    } else if (this.stoppedAt !== null) {
      this.on({ interruptedMs: performance.now() - this.stoppedAt });
      this.stoppedAt = null;
    }
  }

  close() {
    this.closed = true;
    this.stopTracks();
    if (this.context && this.context.state !== "closed") this.context.close().catch(() => {});
  }

  stopTracks() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
  }
}
