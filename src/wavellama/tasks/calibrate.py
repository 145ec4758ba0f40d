"""Calibrate the confidence of a model's words on speech whose text is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

import torch
from fairseq2.data.tokenizers import TokenDecoder, Tokenizer
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.gang import create_fake_gangs
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from wavellama.data.facts import facts_of
from wavellama.data.manifest_dataset import ManifestDatasetConfig, open_manifest_dataset
from wavellama.data.plan import ReaderOptions
from wavellama.decoding.generate import generate
from wavellama.decoding.token_texts import word_token_spans
from wavellama.errors import ConfigError, DataError
from wavellama.metrics.confidence import ConfidenceScores, right_words, score_confidences
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.pipeline.results import write_atomic
from wavellama.search.types import Hypothesis
from wavellama.tasks.adapters import adapt, model_device
from wavellama.text.words import split_words
from wavellama.transcript.calibration import CONFIDENCE_FILE, Confidence, to_json, word_logit

MAX_BAD_SHARE: Final = 0.02
"""The share of utterances with unusable audio above which nothing is calibrated."""

MAX_AUDIO_SECS: Final = 30.0
"""The longest utterance to read where it is not known what the model was trained on."""

_PRIOR: Final = 1e-3
"""How strongly a fit holds on to no calibration: enough where nothing else keeps it finite."""

Track: TypeAlias = "Callable[[Iterable[list[Outcome]], int], Iterable[list[Outcome]]]"
"""Passes on the outcomes of so many utterances, and may show how many are done."""


class Outcome(NamedTuple):
    """A recognised word."""

    token_logprobs: Sequence[float]
    """What the decoder thought of its tokens."""

    is_right: bool


@dataclass(frozen=True)
class Calibration:
    """What was found out about the words of a split."""

    confidence: Confidence
    before: ConfidenceScores
    after: ConfidenceScores
    """On words that the calibration has not seen: each half of the utterances is judged by what
    was fitted to the other half."""

    num_words: int
    accuracy: float
    """The share of the words that is right."""


@dataclass(frozen=True, kw_only=True)
class SplitReader:
    """The speech to recognise."""

    path: Path
    """A manifest, or a folder of them."""

    split: str = "dev"
    languages: tuple[str, ...] = ()
    """The languages to read; none named: all."""

    max_audio_secs: float = MAX_AUDIO_SECS
    """Longer utterances are left out: transcription cuts audio into pieces no longer than what a
    model was trained on, and on longer ones confidence is of another kind."""

    def open(
        self, model: Wav2Vec2LlamaModel, tokenizer: Tokenizer
    ) -> tuple[Iterator[Seq2SeqBatch], int]:
        """Return the batches, with the metadata that the model reads, and how many utterances.

        :raises DataError: there is no manifest, or nothing of that length in the split.
        :raises UnknownNameError: there is no such split, or it has nothing in such a language.
        """
        dataset = open_manifest_dataset(ManifestDatasetConfig(path=self.path, cache_gib=0.0))
        adapter, device = adapt(model), model_device(model)
        adapter.use_tokenizer(tokenizer)
        options = ReaderOptions(
            languages=self.languages,
            max_audio_secs=self.max_audio_secs,
            batch_audio_secs=max(40.0, self.max_audio_secs),
            num_examples=adapter.num_examples,
            language_column=adapter.language_column_name,
            model_languages=adapter.languages,
            max_bad_share=MAX_BAD_SHARE,
        )
        reader = dataset.create_reader(self.split, tokenizer, create_fake_gangs(device), options)
        batches = (batch for batches in reader for batch in batches)
        kept = options.find_kept(facts_of(dataset.utterances(self.split)))
        return batches, len(kept)


def check_decoder(model: torch.nn.Module) -> Wav2Vec2LlamaModel:
    """Return a model that writes text by a decoder; any other one is a ConfigError."""
    if isinstance(model, Wav2Vec2LlamaModel):
        return model
    raise ConfigError(
        f"The confidence of a {type(model).__name__} cannot be calibrated: it has no decoder, whose"
        " log-probabilities it is made of; choose a wav2vec2_llama model."
    )


def recognise_words(
    model: Wav2Vec2LlamaModel,
    tokenizer: Tokenizer,
    source: SplitReader,
    config: Wav2Vec2LlamaBeamSearchConfig,
    track: Track = lambda outcomes, total: outcomes,
) -> list[list[Outcome]]:
    """Recognise a split; return the words of each utterance, and whether they are right.

    :raises DataError: nothing can be read, or a row has no transcript to compare with.
    """
    batches, total = source.open(model, tokenizer)
    decode = tokenizer.create_decoder()
    outcomes = (row for batch in batches for row in _recognise(model, batch, config, decode))
    return list(track(outcomes, total))


def _recognise(
    model: Wav2Vec2LlamaModel,
    batch: Seq2SeqBatch,
    config: Wav2Vec2LlamaBeamSearchConfig,
    decode: TokenDecoder,
) -> Iterator[list[Outcome]]:
    batch.to(model_device(model))
    columns = cast("dict[str, Any]", batch.example)
    results = generate(model, batch, config)
    for hypotheses, text, lang in zip(results, columns["text"], columns["lang"], strict=True):
        yield compare(hypotheses[0], decode, text, lang)


def compare(
    hypothesis: Hypothesis, decode: TokenDecoder, reference: str, lang: str | None
) -> list[Outcome]:
    """Return the words of a hypothesis, and which are right.

    There are none where log-probabilities cannot be told apart by token: a streaming model's
    hypothesis of several segments, or one with a control token inside.
    """
    tokens, logprobs = hypothesis.tokens, hypothesis.token_logprobs
    if not tokens or len(logprobs) != len(tokens) + hypothesis.finished:
        return []
    words = split_words(decode(torch.tensor(tokens, dtype=torch.int64)), lang)
    spans = word_token_spans(decode, tokens, words)
    said = [word.text for word in split_words(reference, lang)]
    are_right = right_words(said, [word.text for word in words])
    return [Outcome(logprobs[span], right) for span, right in zip(spans, are_right, strict=True)]


def calibrate(utterances: Sequence[Sequence[Outcome]], split: str) -> Calibration:
    """Fit the confidence to the words of a split, whose name is for messages.

    :raises DataError: there are no right words, or no wrong ones.
    """
    words = [word for utterance in utterances for word in utterance]
    num_right = sum(word.is_right for word in words)
    if num_right in (0, len(words)):
        found = "none" if num_right == 0 else "every one"
        raise DataError(
            f"Of the {len(words)} words recognised in the split {split}, {found} is right;"
            " confidence is calibrated on right and wrong words, so take more speech, or other."
        )
    halves = [[w for row in utterances[i::2] for w in row] for i in range(2)]
    judged = [*_judge(_fit(halves[1]), halves[0]), *_judge(_fit(halves[0]), halves[1])]
    before = score_words(Confidence(), words)
    return Calibration(_fit(words), before, _score(judged), len(words), num_right / len(words))


def score_words(confidence: Confidence, words: Sequence[Outcome]) -> ConfidenceScores:
    """Compare a calibration with which words are right."""
    return _score(_judge(confidence, words))


def _judge(confidence: Confidence, words: Sequence[Outcome]) -> list[tuple[float, bool]]:
    return [(confidence.of_word(word.token_logprobs), word.is_right) for word in words]


def _score(judged: Sequence[tuple[float, bool]]) -> ConfidenceScores:
    return score_confidences(*zip(*judged, strict=True))


def _fit(words: Sequence[Outcome]) -> Confidence:
    if not words:
        return Confidence()
    return fit_confidence([w.token_logprobs for w in words], [w.is_right for w in words])


def fit_confidence(words: Sequence[Sequence[float]], are_right: Sequence[bool]) -> Confidence:
    """Return the calibration that makes it likeliest that just these words are right.

    :param words: the log-probabilities of each word's tokens, at least one per word.
    :param are_right: whether each word is right; some must be, and some not.
    """
    logits = torch.tensor([word_logit(word) for word in words], dtype=torch.float64)  # (W) words
    targets = torch.tensor(are_right, dtype=torch.float64)
    fitted = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log of the slope, and bias
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        calibrated = logits * fitted[0].exp() + fitted[1]
        loss = (
            binary_cross_entropy_with_logits(calibrated, targets) + _PRIOR * fitted.square().sum()
        )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(compute_loss)  # type: ignore[no-untyped-call]
    log_slope, bias = fitted.tolist()
    return Confidence(float(torch.tensor(-log_slope).exp()), bias)


def save_confidence(run_dir: Path, confidence: Confidence) -> Path:
    """Store a calibration with a training run; return its file."""
    path = run_dir / CONFIDENCE_FILE
    write_atomic(path, to_json(confidence))
    return path
