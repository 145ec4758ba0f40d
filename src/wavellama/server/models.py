"""A model that is served, and the files that it is transcribing."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, final

import numpy as np
from torch import Tensor

from wavellama.audio.load import AudioInput
from wavellama.decoding.token_texts import token_texts
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.pipeline.chunked import Batching
from wavellama.pipeline.inference import ASRInferencePipeline
from wavellama.pipeline.inputs import ContextExample
from wavellama.pipeline.jobs import Job
from wavellama.pipeline.live import LiveSession
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.plans import ClipPlan, Plan
from wavellama.pipeline.scribes import Scribe, Written
from wavellama.pipeline.segments import settled_segments, to_transcript
from wavellama.server.scheduler import Batch, Client, ClientGoneError, Scheduler
from wavellama.server.turns import Turns
from wavellama.text.languages import LanguageTable
from wavellama.transcript.types import Segment, Transcript
from wavellama.units import SAMPLE_RATE

NUM_READERS: Final = max(2, (os.cpu_count() or 1) // 2)
"""How many files are decoded, and listened to for speech, at a time."""

LONGEST_NAME: Final = 100
"""How much of a file's name is told."""

_NOT_A_SCRIBES: Final = frozenset(
    {
        *("lang", "audio_track", "channel", "vad", "chunk_secs", "batch_secs"),
        *("in_order", "update_secs", "endpoint_secs"),
    }
)
"""The options that say what a scribe is given, not what it makes of that."""

OnSettled = Callable[[Sequence[Segment]], None]
"""Is told all segments so far that will not change any more."""


@final
class Upload:
    """An uploaded file as audio is read; reading fails once nobody waits for it."""

    def __init__(self, file: BinaryIO, name: str, client: Client, readers: Turns) -> None:
        """
        :param name: the client's name of it, of which folders are left out.
        :param readers: whoever reads it is one of them, and lets others go first now and then.
        """
        self._file, self._client, self._readers = file, client, readers
        last = PurePosixPath(name.replace("\\", "/")).name
        self.name = "".join(filter(str.isprintable, last))[:LONGEST_NAME] or "audio"

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes.

        :raises OSError: the client has left.
        """
        if self._client.is_gone:
            raise OSError("nobody waits for it any more")
        self._readers.give_way()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place, and return it."""
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        """Return the place of what is read next."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return that the file can be read again."""
        return True


@final
class ServedModel:
    """A model and its scheduler."""

    def __init__(
        self,
        name: str,
        pipeline: ASRInferencePipeline,
        batch_secs: float,
        examples: Sequence[ContextExample] | None = None,
        on_batch: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        """
        :param batch_secs: the most audio that is recognised together.
        :param examples: what a zero-shot model reads first.
        """
        self.name, self._pipeline, self._examples = name, pipeline, examples
        self._batching = Batching(max_secs=batch_secs, window=1)
        self._readers = Turns(NUM_READERS)
        self.scheduler = Scheduler(batch_secs, on_batch)

    @property
    def languages(self) -> LanguageTable | None:
        """The languages that it can be told; None if it takes none."""
        model = self._pipeline.model
        if not isinstance(model, Wav2Vec2LlamaModel) or not model.syntax.needs_language:
            return None
        return model.lang_mapping

    @property
    def num_beams(self) -> int:
        """How many beams it searches with, so that so many alternatives cost nothing; 0: none."""
        has_beams = isinstance(self._pipeline.model, Wav2Vec2LlamaModel)
        return self._pipeline.beam_search_config.nbest if has_beams else 0

    def token_texts(self) -> Sequence[str]:
        """Return what each token writes."""
        return token_texts(self._pipeline.tokenizer)

    def open(
        self, file: BinaryIO, name: str, options: TranscribeOptions, on_settled: OnSettled
    ) -> Transcription:
        """Return a file that is to be transcribed; nothing of it is read yet.

        :raises WavellamaError: the model cannot do what the options ask for.
        """
        plan, client = self._plan(options)
        return self._start(plan, client, Upload(file, name, client, self._readers), on_settled)

    def open_samples(self, samples: Tensor, options: TranscribeOptions) -> Transcription:
        """Return audio of a live session that is to be transcribed as a file is. (T).

        :raises WavellamaError: the model cannot do what the options ask for.
        """
        plan, client = self._plan(options)
        client.is_live = True
        audio: AudioInput = {"waveform": samples, "sample_rate": SAMPLE_RATE}
        return self._start(plan, client, audio, lambda segments: None)

    def _start(
        self, plan: Plan, client: Client, audio: AudioInput, on_settled: OnSettled
    ) -> Transcription:
        if isinstance(plan, ClipPlan):
            plan = replace(plan, batching=self._batching)
        scribe = _SharedScribe(plan.scribe, self.scheduler, client, self._readers)
        (input_,) = self._pipeline.inputs([audio], plan.options.lang, self._examples)
        input_ = replace(input_, selection=plan.options.selection)

        def note(job: Job, secs: float) -> None:
            on_settled(settled_segments(job))

        jobs = replace(plan, scribe=scribe).run([input_], note)
        return Transcription(jobs, self, client)

    def listen(self, options: TranscribeOptions) -> tuple[LiveSession, Client]:
        """Return a live session, whose calls wait for the model, and whom it works for.

        :raises WavellamaError: the model cannot do what the options ask for.
        """
        plan, client = self._plan(options, is_live=True)
        scribe = _SharedScribe(plan.scribe, self.scheduler, client, None)
        (input_,) = self._pipeline.inputs([b""], plan.options.lang, self._examples)
        return replace(plan, scribe=scribe).listen(input_), client

    def warm_up(self) -> None:
        """Transcribe a second of noise, so that the first request does not take longer."""
        noise = np.random.default_rng(0).integers(-999, 999, SAMPLE_RATE, dtype=np.int16)
        with BytesIO() as file:
            with wave.open(file, "wb") as out:
                out.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
                out.writeframes(noise.tobytes())
            self.open(file, "noise.wav", TranscribeOptions(), lambda segments: None).run()
        self.token_texts()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Be one of the few who read audio, but while the model works for it."""
        self._readers.begin()
        try:
            yield
        finally:
            self._readers.end()

    def _plan(self, options: TranscribeOptions, is_live: bool = False) -> tuple[Plan, Client]:
        """Return how options are honoured; a model that takes no language is not told any."""
        if self.languages is None:
            options = replace(options, lang=None, languages=())
        own = self._pipeline.beam_search_config
        asked = own if options.search is None else options.search
        beams = max(asked.nbest, options.nbest)
        search = replace(own, nbest=beams, ctc_draft=own.ctc_draft and beams == 1)
        options = replace(options, search=search)
        plan = self._pipeline.plan(options, is_live=is_live)
        about = asdict(plan.options)
        kind = repr({name: about[name] for name in sorted(about.keys() - _NOT_A_SCRIBES)})
        return plan, Client(kind, is_live)


@final
class Transcription:
    """A file in work."""

    def __init__(self, jobs: Iterator[Job], model: ServedModel, client: Client) -> None:
        self._jobs, self._model, self._client = jobs, model, client

    def run(self) -> Transcript:
        """Return what was said; takes as long as it takes.

        :raises AudioError: the audio is bad, or cannot be recognised.
        :raises ClientGoneError: it was given up.
        """
        with self._model.reading():
            (job,) = self._jobs
        if self._client.is_gone:
            raise ClientGoneError()
        if job.error is not None:
            raise job.error
        return to_transcript(job)

    def give_up(self) -> None:
        """End it as soon as possible; any thread may do so."""
        self._model.scheduler.drop(self._client)


@final
class _SharedScribe:
    """Lets a scheduler write."""

    def __init__(
        self,
        scribe: Scribe[Any],
        scheduler: Scheduler,
        client: Client,
        readers: Turns | None,
    ) -> None:
        """:param readers: who waits for the model is none of them."""
        self._scribe, self._scheduler = scribe, scheduler
        self._client, self._readers = client, readers

    def write(self, clips: list[Any]) -> list[Written]:
        """Return the segment of each clip, or why there is none."""
        sizes = [clip.num_samples for clip in clips]
        if self._readers is None:
            return self._scheduler.write(self._client, self._scribe, clips, sizes)
        self._readers.end()
        try:
            return self._scheduler.write(self._client, self._scribe, clips, sizes)
        finally:
            self._readers.begin()
