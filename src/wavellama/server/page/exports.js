// Transcripts as files. A segment is { start, end, words: [{ text, spaced, start, end, ... }] }.

export function textOf(segment) {
  const words = segment.words.filter((word) => word.text);
  return words.map((word) => (word.spaced ? " " : "") + word.text).join("").trim();
}

// Returns a time as subtitles write it: 01:02:03,004.
export function clock(seconds, mark) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  const parts = [ms / 3600000, (ms / 60000) % 60, (ms / 1000) % 60];
  const [hours, minutes, whole] = parts.map((part) => String(Math.floor(part)).padStart(2, "0"));
  return `${hours}:${minutes}:${whole}${mark}${String(ms % 1000).padStart(3, "0")}`;
}

const spoken = (segments) => segments.filter((segment) => textOf(segment));

const writers = {
  txt: (segments) => spoken(segments).map((one) => `${textOf(one)}\n`).join(""),
  srt: (segments) =>
    spoken(segments)
      .map((one, i) => `${i + 1}\n${clock(one.start, ",")} --> ${clock(one.end, ",")}\n${textOf(one)}\n\n`)
      .join(""),
  vtt: (segments) =>
    "WEBVTT\n\n" +
    spoken(segments)
      .map((one) => `${clock(one.start, ".")} --> ${clock(one.end, ".")}\n${escape(textOf(one))}\n\n`)
      .join(""),
  tsv: (segments) =>
    "start\tend\ttext\n" +
    spoken(segments)
      .map((one) => `${ms(one.start)}\t${ms(one.end)}\t${textOf(one).replace(/\s+/g, " ")}\n`)
      .join(""),
  json: (segments, about) =>
    `${JSON.stringify(
      {
        text: segments.map(textOf).filter(Boolean).join(" "),
        ...about,
        segments: segments.map(({ start, end, words }) => ({
          start,
          end,
          text: textOf({ words }),
          words: words.map(({ text, start, end, probability }) => ({ word: text, start, end, probability })),
        })),
      },
      null,
      1,
    )}\n`,
};

const ms = (seconds) => Math.max(0, Math.round(seconds * 1000));

const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

export function exportAs(format, segments, about) {
  return writers[format](segments, about);
}

export function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
