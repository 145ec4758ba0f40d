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
    const others = alternativesOf(own, (segment.alternatives ?? []).map(({ text }) => text));
    own.forEach((word, i) => (word.others = others[i]));
    return { start: segment.start, end: segment.end, words: own };
  });
}

// Returns what other texts have in place of each word, best first.
export function alternativesOf(words, texts) {
  const mark = words.slice(1).some(({ spaced }) => spaced) || words.length < 2 ? " " : "";
  const own = words.map(({ text }) => text);
  const found = words.map(() => []);
  for (const text of texts) {
    align(own, mark ? text.split(/\s+/).filter(Boolean) : [...text.trim()]).forEach((parts, i) => {
      const other = parts.join(mark);
      if (other && other !== own[i] && !found[i].includes(other)) found[i].push(other);
    });
  }
  return found;
}

// Returns which of `others` stand for each word, if as few as possible differ.
function align(words, others) {
  const costs = [others.map((_, j) => j)];
  costs[0].push(others.length);
  for (let i = 1; i <= words.length; i += 1) {
    costs.push([i]);
    for (let j = 1; j <= others.length; j += 1) {
      const change = costs[i - 1][j - 1] + (words[i - 1] !== others[j - 1]);
      costs[i].push(Math.min(change, costs[i - 1][j] + 1, costs[i][j - 1] + 1));
    }
  }
  const parts = words.map(() => []);
  let [i, j] = [words.length, others.length];
  while (i > 0) {
    const isChange = j > 0 && costs[i][j] === costs[i - 1][j - 1] + (words[i - 1] !== others[j - 1]);
    const isMore = j > 0 && costs[i][j] === costs[i][j - 1] + 1;
    if (isChange || isMore) parts[i - 1].unshift(others[(j -= 1)]);
    if (isChange || !isMore) i -= 1;
  }
  parts[0]?.unshift(...others.slice(0, j));
  return parts;
}

export class TextView {
  constructor(element, player) {
    this.element = element;
    this.player = player;
    this.segments = [];
    this.spans = [];
    this.offered = document.createElement("p");
    this.offered.setAttribute("role", "group");
    this.offered.setAttribute("aria-label", "Alternatives");
    this.offered.className = "offered";
    element.addEventListener("focusin", (event) => this.offer(this.placeOf(event.target)));
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
    span.className = word.others?.length ? "word open" : "word";
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

  // Shows the alternatives of a word below its paragraph.
  offer(place) {
    if (place < 0) return;
    const { span, word } = this.spans[place];
    const buttons = (word.others ?? []).slice(0, 9).map((text, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${i + 1} ${text}`;
      button.addEventListener("click", () => this.replace(place, i));
      return button;
    });
    this.offered.replaceChildren(...buttons);
    if (buttons.length) span.parentElement.after(this.offered);
    else this.offered.remove();
  }

  // Takes an alternative in place of a word, which becomes one.
  replace(place, i) {
    const { span, word } = this.spans[place];
    if (!word.others?.[i]) return;
    [word.text, word.others[i]] = [word.others[i], word.text];
    span.textContent = word.text;
    this.focus(place);
    this.offer(place);
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
    else if (/^[1-9]$/.test(event.key)) this.replace(place, event.key - 1);
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
