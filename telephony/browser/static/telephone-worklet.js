// The telephone itself, on the audio thread: microphone to mu-law packets of 20 ms, mu-law to loudspeaker.
//
// to it:    { play: Uint8Array } { mark: id } { clear: true } { mute: boolean }
// from it:  { packet: Uint8Array, micLevel, playLevel, queued }   every 20 ms; levels are RMS in [0, 1]
//           { mark: id, heard }   { audibleAt: seconds on the context's clock }   once

import { decode, encode } from "./mulaw.js";
import { Playout } from "./playout.js";
import { Resampler } from "./resampler.js";

const LINE_HZ = 8000;
const PACKET_SAMPLES = 160;
const AUDIBLE = 0.003; // -50 dBFS

class Telephone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.toLine = new Resampler(sampleRate, LINE_HZ);
    this.toEar = new Resampler(LINE_HZ, sampleRate);
    this.playout = new Playout();
    this.packet = new Uint8Array(PACKET_SAMPLES);
    this.filled = 0;
    this.muted = false;
    this.heardAnything = false;
    this.micSum = 0;
    this.playSum = 0;
    this.playCount = 0;
    this.read = () => this.playout.read();
    this.emit = (sample) => this.spoken(sample);
    this.port.onmessage = ({ data }) => this.told(data);
  }

  told(data) {
    if (data.play) this.playout.add(Float32Array.from(data.play, decode));
    else if (data.mark !== undefined) this.playout.mark(data.mark);
    else if (data.clear) {
      const { heard, dropped } = this.playout.clear();
      for (const id of heard) this.port.postMessage({ mark: id, heard: true });
      for (const id of dropped) this.port.postMessage({ mark: id, heard: false });
    } else if (data.mute !== undefined) this.muted = data.mute;
  }

  process(inputs, outputs) {
    this.play(outputs[0]);
    // Without a channel nothing is connected yet.
    const microphone = inputs[0][0];
    if (microphone) for (const sample of microphone) this.toLine.push(this.muted ? 0 : sample, this.emit);
    return true;
  }

  play(channels) {
    const ear = channels[0];
    for (let n = 0; n < ear.length; n += 1) {
      const sample = this.toEar.pull(this.read);
      ear[n] = sample;
      this.playSum += sample * sample;
      if (!this.heardAnything && Math.abs(sample) > AUDIBLE) {
        this.heardAnything = true;
        this.port.postMessage({ audibleAt: currentTime + n / sampleRate });
      }
    }
    this.playCount += ear.length;
    for (const channel of channels.slice(1)) channel.set(ear);
    for (const id of this.playout.reached()) this.port.postMessage({ mark: id, heard: true });
  }

  spoken(sample) {
    this.micSum += sample * sample;
    this.packet[this.filled] = encode(sample);
    this.filled += 1;
    if (this.filled < PACKET_SAMPLES) return;
    this.port.postMessage({
      packet: this.packet,
      micLevel: Math.sqrt(this.micSum / PACKET_SAMPLES),
      playLevel: Math.sqrt(this.playSum / Math.max(1, this.playCount)),
      queued: this.playout.queued,
    });
    this.filled = 0;
    this.micSum = this.playSum = this.playCount = 0;
  }
}

registerProcessor("telephone", Telephone);
