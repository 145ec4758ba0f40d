"""A session: events of the client in, events of the server out, in OpenAI's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import ceil
from typing import Any, Final, TypeAlias, final

from wavellama.errors import WavellamaError
from wavellama.server.errors import ApiError, from_wavellama, invalid
from wavellama.server.models import ServedModel
from wavellama.server.realtime.ear import Ear, Heard, More, Started
from wavellama.server.realtime.items import Item, new_id
from wavellama.server.realtime.settings import (
    LOGPROBS,
    TENTATIVE,
    beta_record,
    first_record,
    to_settings,
    updated,
)
from wavellama.server.replies import Json, logprobs
from wavellama.transcript.types import Segment
from wavellama.units import samples_to_seconds

MIN_COMMIT_SECS: Final = 0.1
"""The least audio that a client may commit."""

HEARD_BY: Final = ("format", "turn_detection")
"""Settings that begin anew when they change: audio that is no item yet is lost."""

BUFFER: Final = "input_audio_buffer"
TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"

Events: TypeAlias = Iterator[Json]


@final
class Session:
    """What a websocket talks to; one call at a time, but for ``close``."""

    def __init__(
        self,
        find_model: Callable[[str | None], ServedModel],
        model: str | None,
        rate: int,
        is_beta: bool,
    ) -> None:
        """
        :param find_model: returns a model by its name, or raises ``ApiError``.
        :param rate: of PCM, where the client does not say it.
        :param is_beta: whether the client speaks the form of the beta.
        :raises ApiError: there is no such model.
        """
        self._find_model, self._rate, self._is_beta = find_model, rate, is_beta
        self._id = new_id("sess")
        self._record = first_record(find_model(model).name, rate)
        self._settings = to_settings(self._record)
        self._ear = Ear(self._settings, 0)
        self._item: Item | None = None
        self._begin = 0  # of the item
        self._item_before: str | None = None
        self._is_closed = False

    def begin(self) -> Events:
        """Yield the event that begins a session."""
        yield self._about_session("created")

    def handle(self, event: Mapping[str, Any]) -> Events:
        """Yield what an event of the client leads to; after an error the session goes on."""
        try:
            yield from self._handle(event)
        except ApiError as ex:
            yield error_event(ex, event)
        except WavellamaError as ex:
            yield error_event(from_wavellama(ex), event)

    def close(self) -> None:
        """End the work for the session, and begin no other; any thread may do so."""
        self._is_closed = True
        self._give_up()

    def _handle(self, event: Mapping[str, Any]) -> Events:
        kind = event.get("type")
        if kind == f"{BUFFER}.append":
            yield from self._append(event.get("audio"))
        elif kind in ("session.update", "transcription_session.update"):
            yield from self._update(event.get("session"))
        elif kind == f"{BUFFER}.commit":
            yield from self._commit()
        elif kind == f"{BUFFER}.clear":
            self._start_anew()
            yield _event(f"{BUFFER}.cleared")
        else:
            raise invalid("type", f"A transcription session knows no event {str(kind)[:100]!r}.")

    # What it is told

    def _update(self, session: object) -> Events:
        if not isinstance(session, dict):
            raise invalid("session", "`session` must be an object.")
        record = updated(self._record, session, self._rate)
        settings = to_settings(record)
        model = self._find_model(settings.model)
        model.listen(settings.options)  # or an error says what the model cannot do
        is_heard_otherwise = any(record[name] != self._record[name] for name in HEARD_BY)
        self._record, self._settings = record, settings
        if is_heard_otherwise:
            self._start_anew()
        yield self._about_session("updated")

    def _about_session(self, what: str) -> Json:
        about = {"id": self._id, "object": "realtime.transcription_session"}
        if self._is_beta:
            session = {**about, **beta_record(self._record)}
            return _event(f"transcription_session.{what}", session=session)
        audio = {name: value for name, value in self._record.items() if name != "include"}
        session = {**about, "type": "transcription", "audio": {"input": audio}}
        return _event(f"session.{what}", session={**session, "include": self._record["include"]})

    # What it hears

    def _start_anew(self) -> None:
        """Forget the audio that is no finished item."""
        self._give_up()
        self._item = None
        self._ear = Ear(self._settings, self._ear.time)

    def _append(self, audio: object) -> Events:
        if not isinstance(audio, str):
            raise invalid("audio", "`audio` must be a text in base64.")
        for heard in self._ear.hear(audio):
            yield from self._react(heard)

    def _react(self, heard: Heard) -> Events:
        if isinstance(heard, Started):
            begun, self._begin = self._begin_item(), heard.start
            times = {"audio_start_ms": _to_ms(heard.start), "item_id": begun.id}
            yield _event(f"{BUFFER}.speech_started", **times)
        item = self._item
        if item is None:
            return
        if not isinstance(heard, Started | More):
            yield from self._end_turn(item, heard.end)
        elif self._settings.transcribes and item.hear(heard.samples):
            yield from self._tell_news(item)

    def _begin_item(self) -> Item:
        """Return the item that is worked on from now on; nothing is done for it after the end."""
        self._item = item = Item(self._find_model(self._settings.model), self._settings.options)
        if self._is_closed:  # by another thread, which may not have seen the item
            item.give_up()
        return item

    def _give_up(self) -> None:
        item = self._item
        if item is not None:
            item.give_up()

    def _end_turn(self, item: Item, end: int) -> Events:
        """End the item that is being heard."""
        times = {"audio_end_ms": _to_ms(end), "item_id": item.id}
        yield _event(f"{BUFFER}.speech_stopped", **times)
        yield from self._tell_item(item)
        if self._settings.transcribes:
            item.end()
            yield from self._tell_result(item, self._ear.time - self._begin)
        self._item = None

    def _commit(self) -> Events:
        """Make an item of the audio that is there; with turns, of a turn that goes on."""
        if self._ear.finds_turns:
            if self._item is None:
                raise _nothing_to_commit(0.0)
            yield from self._end_turn(self._item, self._ear.time)
            self._start_anew()
            return
        if self._ear.secs < MIN_COMMIT_SECS:
            raise _nothing_to_commit(self._ear.secs)
        samples = self._ear.take()
        item = self._begin_item()
        self._ear = Ear(self._settings, self._ear.time)
        yield from self._tell_item(item)
        if self._settings.transcribes:
            item.read(samples)
            yield from self._tell_result(item, len(samples))
        self._item = None

    # What it tells

    def _tell_item(self, item: Item) -> Events:
        place = {"item_id": item.id, "previous_item_id": self._item_before}
        yield _event(f"{BUFFER}.committed", **place)
        record = {
            **{"id": item.id, "object": "realtime.item", "type": "message"},
            **{"status": "completed", "role": "user"},
            "content": [{"type": "input_audio", "transcript": None}],
        }
        about = {"previous_item_id": self._item_before, "item": record}
        for what in ("created",) if self._is_beta else ("added", "done"):
            yield _event(f"conversation.item.{what}", **about)
        self._item_before = item.id

    def _tell_news(self, item: Item) -> Events:
        """Yield what the client does not know of an item's text."""
        include = self._settings.include
        news = item.segments[item.num_told :]
        before = item.told
        item.num_told, item.told = len(item.segments), item.text
        if delta := item.told[len(before) :]:
            yield self._about(item, "delta", delta=delta, **self._logprobs(news))
        if TENTATIVE in include and item.tentative:
            yield self._about(item, "tentative", text=item.tentative)

    def _tell_result(self, item: Item, num_samples: int) -> Events:
        yield from self._tell_news(item)
        if item.failure is not None:
            error = from_wavellama(item.failure).record["error"]
            yield self._about(item, "failed", error=error)
            return
        codes = dict.fromkeys(segment.language for segment in item.segments)
        languages = [{"code": code} for code in codes if code is not None]
        yield self._about(
            item,
            "completed",
            transcript=item.text,
            usage={"type": "duration", "seconds": ceil(samples_to_seconds(num_samples))},
            **({"languages": languages} if languages else {}),
            **self._logprobs(item.segments),
        )

    def _logprobs(self, segments: Iterable[Segment]) -> Json:
        if LOGPROBS not in self._settings.include:
            return {}
        texts = self._find_model(self._settings.model).token_texts()
        return {"logprobs": logprobs(segments, texts)}

    def _about(self, item: Item, what: str, **fields: object) -> Json:
        place = {"item_id": item.id, "content_index": 0}
        return _event(f"{TRANSCRIPTION}.{what}", **place, **fields)


def error_event(error: ApiError, event: Mapping[str, Any]) -> Json:
    """Return the event that tells of an error, and which event of the client has caused it."""
    about = event.get("event_id")
    record = {**error.record["error"], "event_id": about if isinstance(about, str) else None}
    return _event("error", error=record)


def _event(kind: str, **fields: object) -> Json:
    return {"type": kind, "event_id": new_id("event"), **fields}


def _to_ms(num_samples: int) -> int:
    return round(1000 * samples_to_seconds(num_samples))


def _nothing_to_commit(secs: float) -> ApiError:
    message = (
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio,"
        f" but buffer only has {1000 * secs:.2f}ms of audio."
    )
    return ApiError(400, "input_audio_buffer_commit_empty", message)
