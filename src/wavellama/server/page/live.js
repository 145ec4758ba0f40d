// Text while somebody speaks: the microphone's samples go to /v1/realtime.

const RATE = 24000;

const ITEM = "conversation.item.input_audio_transcription";

export const NOTHING = { text: "", tentative: "", item: null, error: null };

// Returns what is known after an event of the server.
export function apply(known, event) {
  if (event.type === `${ITEM}.delta`) {
    const isNew = known.item !== event.item_id && known.text;
    const text = known.text + (isNew ? " " : "") + event.delta;
    return { ...known, text, tentative: "", item: event.item_id };
  }
  if (event.type === `${ITEM}.tentative`) return { ...known, tentative: event.text };
  if (event.type === `${ITEM}.completed`) return { ...known, tentative: "" };
  if (event.error) return { ...known, error: event.error.message };
  return known;
}

// Returns samples between -1 and 1 as 16-bit audio in base64.
export function encode(samples) {
  const integers = Int16Array.from(samples, (sample) => 32767 * Math.min(Math.max(sample, -1), 1));
  return btoa(String.fromCharCode(...new Uint8Array(integers.buffer)));
}

export function settingsOf(model, languages) {
  const spoken = languages.length === 1 ? { language: languages[0] } : { languages };
  const input = { format: { type: "audio/pcm", rate: RATE }, transcription: { model, ...spoken } };
  const include = [`item.input_audio_transcription.tentative`];
  return { type: "transcription", audio: { input }, include };
}

export class LiveText {
  // Begins to listen to a microphone; `onChange` is told what is known.
  async start(stream, { model, languages }, onChange) {
    const address = new URL("v1/realtime", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ model, intent: "transcription" });
    this.socket = new WebSocket(address, "realtime");
    let known = NOTHING;
    this.socket.addEventListener("message", ({ data }) => {
      known = apply(known, JSON.parse(data));
      onChange(known);
    });
    this.socket.addEventListener("open", () => {
      this.send({ type: "session.update", session: settingsOf(model, languages) });
    });
    await this.listen(stream);
  }

  async listen(stream) {
    this.context = new AudioContext({ sampleRate: RATE });
    await this.context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const node = new AudioWorkletNode(this.context, "samples", { numberOfOutputs: 0 });
    node.port.addEventListener("message", ({ data }) => {
      this.send({ type: "input_audio_buffer.append", audio: encode(data) });
    });
    node.port.start();
    this.context.createMediaStreamSource(stream).connect(node);
  }

  send(event) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(event));
  }

  async stop() {
    this.socket?.close();
    await this.context?.close();
  }
}
