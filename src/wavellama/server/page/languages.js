// The picker of languages: type to search names and codes, choose one or several.

const MAX_CHOICES = 50;

const fold = (text) =>
  text
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .toLowerCase();

// Returns the languages that a text may mean: those that begin with it first.
export function search(rows, text) {
  const wanted = fold(text.trim());
  const found = [];
  for (const row of rows) {
    const name = fold(row.name);
    const codes = [row.code.toLowerCase(), row.short];
    if (codes.includes(wanted)) found.push([0, row]);
    else if (name.startsWith(wanted)) found.push([1, row]);
    else if (codes[0].startsWith(wanted) || name.includes(wanted)) found.push([2, row]);
  }
  found.sort((a, b) => a[0] - b[0] || a[1].name.localeCompare(b[1].name));
  return found.slice(0, MAX_CHOICES).map(([, row]) => row);
}

export class LanguagePicker {
  constructor() {
    this.box = document.getElementById("languages");
    this.input = document.getElementById("language");
    this.list = document.getElementById("choices");
    this.chips = document.getElementById("chosen");
    this.rows = [];
    this.chosen = [];
    this.active = -1;
    this.input.addEventListener("input", () => this.show());
    this.input.addEventListener("focus", () => this.show());
    this.input.addEventListener("blur", () => setTimeout(() => this.hide(), 150));
    this.input.addEventListener("keydown", (event) => this.press(event));
  }

  // Takes the languages of a model; a model without any has no picker.
  offer(rows) {
    this.rows = rows;
    this.box.hidden = rows.length === 0;
    const codes = new Set(rows.map((row) => row.code));
    this.chosen = this.chosen.filter((row) => codes.has(row.code));
    this.draw();
  }

  get codes() {
    return this.chosen.map((row) => row.code);
  }

  show() {
    const rows = search(this.rows, this.input.value);
    this.active = rows.length && this.input.value ? 0 : -1;
    this.list.replaceChildren(
      ...rows.map((row, i) => {
        const item = document.createElement("li");
        item.id = `choice-${i}`;
        item.setAttribute("role", "option");
        item.textContent = `${row.name || row.code} · ${row.code}`;
        item.addEventListener("mousedown", (event) => event.preventDefault());
        item.addEventListener("click", () => this.add(row));
        return item;
      }),
    );
    this.shown = rows;
    this.list.hidden = rows.length === 0;
    this.input.setAttribute("aria-expanded", String(rows.length > 0));
    this.point();
  }

  hide() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  press(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps && this.shown?.length) {
      const count = this.shown.length;
      this.active = (this.active + steps[event.key] + count) % count;
      this.point();
    } else if (event.key === "Enter" && this.active >= 0 && !this.list.hidden) {
      this.add(this.shown[this.active]);
    } else if (event.key === "Escape") {
      this.hide();
    } else if (event.key === "Backspace" && !this.input.value) {
      this.chosen.pop();
      this.draw();
    } else {
      return;
    }
    event.preventDefault();
  }

  point() {
    [...this.list.children].forEach((item, i) => {
      item.setAttribute("aria-selected", String(i === this.active));
      if (i !== this.active) return;
      this.input.setAttribute("aria-activedescendant", item.id);
      item.scrollIntoView({ block: "nearest" });
    });
  }

  add(row) {
    if (!this.chosen.includes(row)) this.chosen.push(row);
    this.input.value = "";
    this.hide();
    this.draw();
  }

  draw() {
    this.chips.replaceChildren(
      ...this.chosen.map((row) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = `${row.name || row.code} ×`;
        button.setAttribute("aria-label", `Remove ${row.name || row.code}`);
        button.addEventListener("click", () => {
          this.chosen = this.chosen.filter((one) => one !== row);
          this.draw();
        });
        item.append(button);
        return item;
      }),
    );
  }
}
