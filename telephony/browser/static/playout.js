// What waits to be heard, at 8 kHz, with marks between the samples. Fed by the network, read sample by sample.

const CROSSFADE = 40; // 5 ms: what a clear cuts fades out under what follows it, so that neither clicks

export class Playout {
  constructor() {
    this.chunks = [];
    this.offset = 0; // in the first chunk
    this.queued = 0;
    this.added = 0; // since the call began
    this.played = 0;
    this.marks = []; // { id, at }: reached when so many samples were played
    this.tail = [];
    this.faded = 0;
  }

  add(samples) {
    this.chunks.push(samples);
    this.queued += samples.length;
    this.added += samples.length;
  }

  mark(id) {
    this.marks.push({ id, at: this.added });
  }

  // Drop what was not played. Returns the ids of the marks that were dropped with it.
  clear() {
    const tail = [];
    while (tail.length < CROSSFADE && this.queued > 0) tail.push(this.take());
    const lost = this.reached(this.played - tail.length);
    const dropped = this.marks.map((mark) => mark.id);
    this.marks = [];
    this.chunks = [];
    this.offset = 0;
    this.queued = 0;
    this.added = this.played;
    this.tail = tail;
    this.faded = 0;
    return { heard: lost, dropped };
  }

  // The next sample; silence where nothing waits.
  read() {
    const sample = this.queued > 0 ? this.take() : 0;
    if (this.faded >= this.tail.length) return sample;
    const rising = (this.faded + 0.5) / this.tail.length;
    const falling = this.tail[this.faded] * (1 - rising);
    this.faded += 1;
    return sample * rising + falling;
  }

  // The ids of marks before which everything was played, once.
  reached(position = this.played) {
    const ids = [];
    while (this.marks.length > 0 && this.marks[0].at <= position) ids.push(this.marks.shift().id);
    return ids;
  }

  take() {
    const sample = this.chunks[0][this.offset];
    this.offset += 1;
    this.queued -= 1;
    this.played += 1;
    if (this.offset === this.chunks[0].length) {
      this.chunks.shift();
      this.offset = 0;
    }
    return sample;
  }
}
