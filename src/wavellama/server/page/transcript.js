// The text on the page: words that can be heard, moved between and edited.

// How dark the shade of a word is, by the probability that it is right.
export function shade(probability) {
  if (probability === null || probability === undefined) return 0;
  return Math.round(Math.min(Math.max(1 - probability, 0), 1) * 60) / 100;
}

// Returns the segments of a finished transcription, each with its own words.
export function segmentsOf(done) {
  const words = [...(done.words ?? [])];
  return done.segments.map((segment) => {
    const own = [];
    let rest = segment.text;
    while (words.length && rest.trimStart().startsWith(words[0].word)) {
      const spaced = rest !== rest.trimStart();
      rest = rest.trimStart().slice(words[0].word.length);
      const { word, start, end, probability } = words.shift();
      own.push({ text: word, spaced, start, end, probability });
    }
    if (rest.trim()) {
      own.push({ text: rest.trim(), spaced: true, start: segment.start, end: segment.end });
    }
    return { start: segment.start, end: segment.end, words: own };
  });
}

export class TextView {
  constructor(element, player) {
    this.element = element;
    this.player = player;
    this.segments = [];
    this.spans = [];
    element.addEventListener("click", (event) => this.click(event));
    element.addEventListener("dblclick", (event) => this.edit(this.placeOf(event.target)));
    element.addEventListener("keydown", (event) => this.press(event));
    player.addEventListener("timeupdate", () => this.follow());
  }

  clear() {
    this.segments = [];
    this.spans = [];
    this.element.replaceChildren();
  }

  // Adds text whose times are not known yet.
  append(text) {
    this.element.append(text);
  }

  // Shows what somebody is saying, and what may still change of it.
  showLive(text, tentative) {
    const guess = document.createElement("span");
    guess.className = "tentative";
    guess.textContent = ` ${tentative}`;
    this.element.replaceChildren(text, guess);
  }

  show(segments) {
    this.clear();
    this.segments = segments;
    for (const segment of segments) {
      const paragraph = document.createElement("p");
      for (const word of segment.words) {
        if (word.spaced) paragraph.append(" ");
        paragraph.append(this.draw(word));
      }
      this.element.append(paragraph);
    }
    if (this.spans.length) this.spans[0].span.tabIndex = 0;
  }

  draw(word) {
    const span = document.createElement("span");
    span.className = "word";
    span.tabIndex = -1;
    span.textContent = word.text;
    span.style.setProperty("--shade", shade(word.probability));
    if (word.probability !== null && word.probability !== undefined) {
      span.title = `${Math.round(100 * word.probability)} % certain`;
    }
    this.spans.push({ span, word });
    return span;
  }

  placeOf(target) {
    return this.spans.findIndex(({ span }) => span === target);
  }

  click(event) {
    const place = this.placeOf(event.target);
    if (place >= 0 && !event.target.isContentEditable) this.hear(place);
  }

  hear(place) {
    this.focus(place);
    this.player.currentTime = this.spans[place].word.start;
    this.player.play();
  }

  focus(place) {
    for (const { span } of this.spans) span.tabIndex = -1;
    this.spans[place].span.tabIndex = 0;
    this.spans[place].span.focus();
  }

  press(event) {
    const place = this.placeOf(event.target);
    if (place < 0) return;
    if (event.target.isContentEditable) {
      this.pressInEdit(event, place);
      return;
    }
    const last = this.spans.length - 1;
    const moves = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: last };
    if (event.key in moves) this.focus(Math.min(Math.max(moves[event.key], 0), last));
    else if (event.key === "Enter") this.hear(place);
    else if (event.key === "F2") this.edit(place);
    else if (event.key === " ") this.player.paused ? this.player.play() : this.player.pause();
    else return;
    event.preventDefault();
  }

  edit(place) {
    if (place < 0) return;
    const { span, word } = this.spans[place];
    span.contentEditable = "true";
    span.focus();
    getSelection().selectAllChildren(span);
    span.addEventListener("blur", () => this.keep(span, word), { once: true });
  }

  pressInEdit(event, place) {
    const { span, word } = this.spans[place];
    if (event.key === "Escape") span.textContent = word.text;
    if (!["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    span.blur();
    this.focus(place);
  }

  keep(span, word) {
    word.text = span.textContent.replace(/\s+/g, " ").trim();
    span.textContent = word.text;
    span.removeAttribute("contenteditable");
  }

  // Marks the word that is being played.
  follow() {
    const time = this.player.currentTime;
    for (const { span, word } of this.spans) {
      span.classList.toggle("now", !this.player.paused && word.start <= time && time < word.end);
    }
  }
}
