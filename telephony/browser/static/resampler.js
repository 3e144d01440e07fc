// Rational resampling by a windowed sinc, one sample at a time: from the microphone's rate to 8 kHz and from
// 8 kHz to the loudspeaker's. The table has one row of taps for each position between two input samples.

const HALF_WIDTH = 24; // of the sinc, in samples of the lower rate
const CUTOFF = 0.4625; // of the lower rate: at 8 kHz flat to 3.3 kHz, and 70 dB down from 4.1 kHz on
const KAISER_BETA = 7;

export class Resampler {
  constructor(fromHz, toHz) {
    const common = greatestCommonDivisor(fromHz, toHz);
    const lower = Math.min(fromHz, toHz);
    const half = Math.ceil((HALF_WIDTH * fromHz) / lower);
    this.up = toHz / common;
    this.down = fromHz / common;
    this.length = 2 * half;
    this.taps = sincTable(this.up, half, (CUTOFF * lower) / fromHz);
    // Every sample stands twice, so that the last `length` of them always lie side by side.
    this.past = new Float32Array(2 * this.length);
    this.position = 0;
    this.phase = this.up; // of the next output after the newest input, in parts of one input sample
  }

  // Take one input sample, hand every output sample that it completes to `emit`.
  push(sample, emit) {
    this.take(sample);
    while (this.phase < this.up) emit(this.next());
  }

  // Make one output sample; `read` gives the input samples that it needs.
  pull(read) {
    while (this.phase >= this.up) this.take(read());
    return this.next();
  }

  take(sample) {
    this.past[this.position] = sample;
    this.past[this.position + this.length] = sample;
    this.position = (this.position + 1) % this.length;
    this.phase -= this.up;
  }

  next() {
    const { taps, past, length, position } = this;
    const row = this.phase * length;
    let sum = 0;
    for (let k = 0; k < length; k += 1) sum += taps[row + k] * past[position + k];
    this.phase += this.down;
    return sum;
  }
}

function sincTable(phases, half, cutoff) {
  const length = 2 * half;
  const taps = new Float32Array(phases * length);
  for (let phase = 0; phase < phases; phase += 1) {
    let sum = 0;
    const row = new Float64Array(length);
    for (let k = 0; k < length; k += 1) {
      const t = k - half + 1 - phase / phases;
      row[k] = sinc(2 * cutoff * t) * kaiser(t / half);
      sum += row[k];
    }
    for (let k = 0; k < length; k += 1) taps[phase * length + k] = row[k] / sum;
  }
  return taps;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel0(KAISER_BETA * Math.sqrt(1 - x * x)) / bessel0(KAISER_BETA);
}

function bessel0(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
