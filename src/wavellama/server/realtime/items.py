"""One utterance of a session, on its way to a text.

Shapes: T samples.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import final

from torch import Tensor

from wavellama.errors import AudioError
from wavellama.pipeline.live import LiveUpdate
from wavellama.pipeline.options import TranscribeOptions
from wavellama.server.models import ServedModel, Transcription
from wavellama.transcript.types import Segment


def new_id(kind: str) -> str:
    """Return the id of a session, an item or an event, which there was never before."""
    return f"{kind}_{uuid.uuid4().hex[:24]}"


@final
class Item:
    """Speech that is heard while it goes on, or that is there as a whole."""

    def __init__(self, model: ServedModel, options: TranscribeOptions) -> None:
        self.id, self._model, self._options = new_id("item"), model, options
        self._session, self._client = model.listen(options)
        self._whole: Transcription | None = None
        self.segments: Sequence[Segment] = ()
        """What will not change any more."""
        self.tentative = ""
        """What seems to follow."""
        self.failure: AudioError | None = None
        """What could not be recognised."""
        self.num_told, self.told = 0, ""
        """How many segments the client knows, and their text."""

    @property
    def text(self) -> str:
        """The text of the segments."""
        return "".join(segment.text for segment in self.segments).strip()

    def hear(self, samples: Tensor) -> bool:
        """Take audio; return whether something became known. (T)."""
        updates = self._session.feed(samples)
        for update in updates:
            self._keep(update)
        return bool(updates)

    def end(self) -> None:
        """Recognise what is left of what was heard."""
        self._keep(self._session.finish())

    def read(self, samples: Tensor) -> None:
        """Recognise audio as a whole, as a file of it. (T)."""
        self._whole = self._model.open_samples(samples, self._options)
        if self._client.is_gone:  # since then, so that nobody has given up the whole
            self._whole.give_up()
        try:
            self.segments = self._whole.run().segments
        except AudioError as ex:
            self.failure = ex

    def give_up(self) -> None:
        """End the work for it; any thread may do so."""
        self._model.scheduler.drop(self._client)
        if self._whole is not None:
            self._whole.give_up()

    def _keep(self, update: LiveUpdate) -> None:
        self.segments, self.tentative = tuple(self._session.segments), update.tentative
        self.failure = self.failure or next(iter(update.failures), None)
