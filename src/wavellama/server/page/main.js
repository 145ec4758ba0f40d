// What happens on the page.

import { listLanguages, listModels, transcribe } from "./api.js";
import { Recorder, drawWave } from "./audio.js";
import { exportAs, save, textOf } from "./exports.js";
import { LanguagePicker } from "./languages.js";
import { LiveText } from "./live.js";
import { TextView, segmentsOf } from "./transcript.js";

const get = (id) => document.getElementById(id);

// How many hypotheses words are compared in, where alternatives are asked for.
const NUM_HYPOTHESES = 4;

const picker = new LanguagePicker();
const view = new TextView(get("text"), get("player"));
const recorder = new Recorder();
const live = new LiveText();
let file = null;
let work = null;
let about = {};
let models = [];

function tell(text) {
  get("status").textContent = text;
}

function complain(error) {
  get("error").textContent = error ? error.message : "";
}

function take(chosen) {
  if (!chosen) return;
  file = chosen;
  complain(null);
  tell(`${file.name} is ready.`);
  get("start").disabled = false;
  const player = get("player");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  player.hidden = false;
  drawWave(get("wave"), file);
}

function setWorking(controller) {
  work = controller;
  get("start").hidden = controller !== null;
  get("stop").hidden = controller === null;
  get("text").setAttribute("aria-busy", String(controller !== null));
}

async function start() {
  complain(null);
  view.clear();
  get("keys").hidden = get("exports").hidden = true;
  setWorking(new AbortController());
  tell("Listening to the file.");
  try {
    await follow(work.signal);
  } catch (error) {
    if (error.name === "AbortError") tell("Stopped.");
    else {
      tell("");
      complain(error);
    }
  } finally {
    setWorking(null);
  }
}

async function follow(signal) {
  const nbest = get("alternatives").checked ? NUM_HYPOTHESES : 1;
  const options = { model: get("model").value, languages: picker.codes, nbest, signal };
  for await (const event of transcribe(file, options)) {
    if (event.type === "transcript.text.delta") view.append(event.delta);
    if (event.type === "transcript.text.done") finish(event);
  }
}

function finish(done) {
  const segments = segmentsOf(done);
  about = { language: done.language, duration: done.duration };
  get("text").lang = (done.language || "und").split("_")[0];
  view.show(segments);
  const found = segments.some((segment) => textOf(segment));
  get("keys").hidden = get("exports").hidden = !found;
  tell(found ? "Done." : "No speech was found.");
}

async function record() {
  const button = get("record");
  const isOn = button.getAttribute("aria-pressed") === "true";
  try {
    if (isOn) await endRecording();
    else await beginRecording();
    button.setAttribute("aria-pressed", String(!isOn));
    button.textContent = isOn ? "Record" : "Stop recording";
  } catch (error) {
    complain(error);
  }
}

async function beginRecording() {
  complain(null);
  get("keys").hidden = get("exports").hidden = true;
  view.clear();
  await recorder.start();
  tell("Recording.");
  const options = { model: get("model").value, languages: picker.codes };
  try {
    await live.start(recorder.stream, options, ({ text, tentative, error }) => {
      view.showLive(text, tentative);
      complain(error && { message: error });
    });
  } catch (error) {
    complain({ message: `There is no text while you speak: ${error.message}` });
  }
}

// The recording then is a file like any other, whose words have times.
async function endRecording() {
  await live.stop();
  take(await recorder.stop());
  start();
}

function listenForDrops() {
  const place = get("drop");
  const mark = (isOver) => (event) => {
    event.preventDefault();
    place.classList.toggle("over", isOver);
  };
  document.addEventListener("dragover", mark(true));
  document.addEventListener("dragleave", mark(false));
  document.addEventListener("drop", (event) => {
    mark(false)(event);
    take(event.dataTransfer.files[0]);
  });
}

function listen() {
  listenForDrops();
  get("file").addEventListener("change", (event) => take(event.target.files[0]));
  get("record").addEventListener("click", record);
  get("start").addEventListener("click", start);
  get("stop").addEventListener("click", () => work?.abort());
  get("model").addEventListener("change", offer);
  get("copy").addEventListener("click", async () => {
    await navigator.clipboard.writeText(exportAs("txt", view.segments, about));
    tell("Copied.");
  });
  for (const button of document.querySelectorAll("[data-format]")) {
    const { format } = button.dataset;
    const stem = () => file.name.replace(/\.[^.]*$/, "");
    button.addEventListener("click", () => {
      save(`${stem()}.${format}`, exportAs(format, view.segments, about));
    });
  }
}

// Offers what the chosen model can do; alternatives at once where they cost no time.
async function offer() {
  const { num_beams } = models.find(({ id }) => id === get("model").value);
  get("alternatives-choice").hidden = num_beams === 0;
  get("alternatives").checked = num_beams > 1;
  picker.offer(await listLanguages(get("model").value));
}

async function begin() {
  listen();
  try {
    models = await listModels();
    get("model").replaceChildren(...models.map(({ id }) => new Option(id, id)));
    await offer();
  } catch (error) {
    complain(error);
  }
}

begin();
