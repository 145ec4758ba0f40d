// Gathers the samples of a microphone into messages of a tenth of a second.

const NUM_SAMPLES = 2400;

class Samples extends AudioWorkletProcessor {
  constructor() {
    super();
    this.held = new Float32Array(NUM_SAMPLES);
    this.count = 0;
  }

  process([input]) {
    for (const sample of input[0] ?? []) {
      this.held[this.count] = sample;
      this.count += 1;
      if (this.count === NUM_SAMPLES) {
        this.port.postMessage(this.held.slice());
        this.count = 0;
      }
    }
    return true;
  }
}

registerProcessor("samples", Samples);
