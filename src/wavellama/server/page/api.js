// What the page asks its server: OpenAI's endpoints, and the list of languages.

export class ApiError extends Error {}

async function check(reply) {
  if (reply.ok) return reply;
  let message = `The server answered ${reply.status}.`;
  try {
    message = (await reply.json()).error.message;
  } catch {
    // no envelope: a proxy in between has answered
  }
  throw new ApiError(message);
}

async function ask(path, options) {
  try {
    return await check(await fetch(path, options));
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
}

export async function listModels() {
  const reply = await ask("v1/models");
  return (await reply.json()).data;
}

export async function listLanguages(model) {
  const reply = await ask(`v1/languages?model=${encodeURIComponent(model)}`);
  return (await reply.json()).data;
}

// Yields the events of a transcription: deltas of the text, then all that is known.
export async function* transcribe(file, { model, languages, nbest, signal }) {
  const form = new FormData();
  form.append("model", model);
  form.append("stream", "true");
  form.append("timestamp_granularities[]", "word");
  form.append("timestamp_granularities[]", "segment");
  form.append("word_timestamps", "true");
  form.append("nbest", nbest);
  if (languages.length === 1) form.append("language", languages[0]);
  else for (const code of languages) form.append("languages[]", code);
  form.append("file", file, file.name || "recording.webm");
  const reply = await ask("v1/audio/transcriptions", { method: "POST", body: form, signal });
  for await (const event of readEvents(reply.body)) {
    if (event.error) throw new ApiError(event.error.message);
    yield event;
  }
}

// Yields the events of a stream of `event:` and `data:` lines.
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    waiting += value;
    const frames = waiting.split("\n\n");
    waiting = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}
