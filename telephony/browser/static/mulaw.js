// G.711 mu-law (ITU-T G.711 tables 2a and 2b): one byte a sample, samples as floats in [-1, 1].

const BIAS = 0x84;
const CLIP = 32635;

const DECODED = new Float32Array(256);
for (let byte = 0; byte < 256; byte += 1) {
  const bits = ~byte & 0xff;
  const exponent = (bits >> 4) & 0x07;
  const magnitude = ((((bits & 0x0f) << 3) + BIAS) << exponent) - BIAS;
  DECODED[byte] = (bits & 0x80 ? -magnitude : magnitude) / 32768;
}

export function decode(byte) {
  return DECODED[byte];
}

export function encode(sample) {
  let value = Math.round(sample * 32768);
  const sign = value < 0 ? 0x80 : 0;
  value = Math.min(CLIP, Math.abs(value)) + BIAS;
  const exponent = Math.max(0, 24 - Math.clz32(value));
  const mantissa = (value >> (exponent + 3)) & 0x0f;
  return ~(sign | (exponent << 4) | mantissa) & 0xff;
}
