// The audio of the page: its wave, and the microphone.

const NUM_BARS = 400;

// Returns the loudest sample of each of some stretches.
export function peaks(samples, count) {
  const size = Math.max(1, Math.ceil(samples.length / count));
  const found = [];
  for (let begin = 0; begin < samples.length; begin += size) {
    let peak = 0;
    const end = Math.min(begin + size, samples.length);
    for (let i = begin; i < end; i += 1) peak = Math.max(peak, Math.abs(samples[i]));
    found.push(peak);
  }
  return found;
}

// Draws the wave of a file that the browser can read and that is not too long for it.
export async function drawWave(canvas, file) {
  const context = canvas.getContext("2d");
  canvas.width = canvas.clientWidth;
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (file.size > 50_000_000) return;
  let samples;
  try {
    const audio = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await file.arrayBuffer());
    samples = audio.getChannelData(0);
  } catch {
    return; // the server reads more formats than browsers do
  }
  const bars = peaks(samples, NUM_BARS);
  const loudest = Math.max(...bars, 1e-4);
  context.fillStyle = getComputedStyle(canvas).color;
  const width = canvas.width / bars.length;
  bars.forEach((bar, i) => {
    const height = Math.max(1, (canvas.height * bar) / loudest);
    context.fillRect(i * width, (canvas.height - height) / 2, Math.max(1, width - 1), height);
  });
}

export class Recorder {
  // Begins to record; the browser asks its user first.
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("The microphone is only there on https or on this computer itself.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      const denied = error.name === "NotAllowedError";
      throw new Error(denied ? "The microphone was not allowed." : "No microphone was found.");
    }
    this.parts = [];
    this.recorder = new MediaRecorder(this.stream);
    this.recorder.addEventListener("dataavailable", ({ data }) => this.parts.push(data));
    this.recorder.start(1000);
  }

  // Ends the recording; returns it as a file.
  async stop() {
    const ended = new Promise((resolve) => this.recorder.addEventListener("stop", resolve));
    this.recorder.stop();
    await ended;
    for (const track of this.stream.getTracks()) track.stop();
    const type = this.recorder.mimeType;
    const suffix = type.includes("mp4") ? "mp4" : type.includes("ogg") ? "ogg" : "webm";
    return new File(this.parts, `recording.${suffix}`, { type });
  }
}
