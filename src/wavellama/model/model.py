"""The Wav2Vec2-Llama network.

Shapes: N rows, T samples, T' embedded frames, S decoder positions, M decoder width, E encoder
width, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, final

import torch
from fairseq2.data.tokenizers import VocabularyInfo
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.models.transformer import TransformerEncoder
from fairseq2.models.transformer_lm import TransformerLMDecoder
from fairseq2.models.wav2vec2 import Wav2Vec2Frontend, Wav2Vec2Masker
from fairseq2.nn import BatchLayout, Linear, StandardEmbedding
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import pad

from wavellama.batch import AsrBatch, to_asr_batch
from wavellama.errors import BatchError, ConfigError, ContextTooLongError
from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaStreamingConfig
from wavellama.model.draws import Draws, keep_rows, replace_tokens
from wavellama.model.features import FilterBankExtractor, extract_by_row
from wavellama.model.loss import Objective, TrainingLoss, ctc_sum, nll_sum
from wavellama.prompt.assemble import PromptRow, assemble
from wavellama.prompt.layout import NO_LABEL, PromptLayout, lay_out
from wavellama.prompt.parts import Part
from wavellama.prompt.syntaxes import ModelType, select_syntax
from wavellama.text.languages import LanguageTable
from wavellama.units import MIN_SAMPLES


class DecoderInputs(NamedTuple):
    """What the decoder reads, without running it."""

    decoder_context_inputs: list[Tensor]
    """The context of each decoded segment. *Shape of each:* (N, S_ctx, M)."""

    decoder_context_seq_lens: list[list[int]]
    """Per decoded segment, the length of each row's context."""

    audio_embeddings: Tensor
    """The embedded audio. *Shape:* (N, T', M)."""


class ForwardOutput(NamedTuple):
    """The loss and all that led to it."""

    loss: Tensor
    logits: Tensor
    decoder_inputs_layout: BatchLayout
    decoder_context_inputs: list[Tensor]
    decoder_context_seq_lens: list[list[int]]
    audio_embeddings: Tensor


class EmbeddedPrompt(NamedTuple):
    """The decoder's input as embeddings, with its layout."""

    seqs: Tensor
    """*Shape:* (N, S, M)."""

    layout: PromptLayout

    audio: Tensor
    """The embedded clips. *Shape:* (N, T', M)."""

    def context(self) -> Tensor:
        """Return the part before the first covered position, zero-padded. (N, S_ctx, M)."""
        lens = torch.tensor(self.layout.context_lens, device=self.seqs.device)
        width = max(self.layout.context_lens)
        inside = torch.arange(width, device=self.seqs.device) < lens[:, None]
        return self.seqs[:, :width] * inside[:, :, None]


@final
class Wav2Vec2LlamaModel(Module):
    """A wav2vec 2.0 encoder whose frames, with text, are read by a Llama decoder."""

    def __init__(  # noqa: PLR0913  the specification fixes these parameters
        self,
        model_type: ModelType,
        model_dim: int,
        encoder_frontend: Wav2Vec2Frontend,
        encoder: TransformerEncoder,
        encoder_proj: Linear,
        text_frontend: StandardEmbedding,
        llama_decoder: TransformerLMDecoder,
        final_proj: Linear,
        target_vocab_info: VocabularyInfo,
        *,
        masker: Wav2Vec2Masker | None = None,
        max_generation_length: int = 8192,
        encoder_stacking: int = 1,
        lang_embeddings_p: float = 0.0,
        language_column_name: str = "lang",
        lang_embeddings: StandardEmbedding | None = None,
        lang_mapping: Mapping[str, int] | None = None,
        context_text_only: bool = False,
        beam_search_config: Wav2Vec2LlamaBeamSearchConfig | None = None,
        streaming_config: Wav2Vec2LlamaStreamingConfig | None = None,
        n_context_examples: int = 0,
        seed: int = 42,
        special_token_base: int | None = None,
        ctc_head: Linear | None = None,
    ) -> None:
        """
        :param model_type: the kind of model, which selects the syntax.
        :param model_dim: the width of the decoder.
        :param target_vocab_info: the target vocabulary and its control tokens.
        :param masker: the feature masker; acts in training only.
        :param max_generation_length: the longest decoder sequence, context included.
        :param encoder_stacking: the number of encoder frames per decoder position.
        :param lang_embeddings_p: the probability with which training shows a row its language.
        :param language_column_name: the metadata column that holds language codes.
        :param lang_mapping: language code to row of ``lang_embeddings``.
        :param beam_search_config: the default search of ``generate``.
        :param seed: the seed of the draws that training makes.
        :param special_token_base: the id of the first special token (default: vocabulary size).
        :param ctc_head: an output layer on the encoder, for CTC.
        :raises SyntaxNotAvailableError: there is no such form of this kind of model.
        """
        super().__init__()
        streaming_config = streaming_config or Wav2Vec2LlamaStreamingConfig()
        self.syntax = select_syntax(
            model_type, streaming=streaming_config.is_streaming, text_only=context_text_only
        )
        if self.syntax.needs_language and lang_embeddings is None:
            raise ConfigError(f"An {model_type.name} model needs `lang_embeddings`.")
        self.model_type = model_type
        self.model_dim = model_dim
        self.encoder_frontend = encoder_frontend
        self.encoder = encoder
        self.encoder_proj = encoder_proj
        self.text_frontend = text_frontend
        self.llama_decoder = llama_decoder
        self.final_proj = final_proj
        self.target_vocab_info = target_vocab_info
        self.masker = masker
        self.lang_embeddings = lang_embeddings
        self.ctc_head = ctc_head
        self.max_generation_length = max_generation_length
        self.encoder_stacking = encoder_stacking
        self.lang_embeddings_p = lang_embeddings_p
        self.language_column_name = language_column_name
        self.lang_mapping = LanguageTable(lang_mapping or {})
        self.beam_search_config = beam_search_config or Wav2Vec2LlamaBeamSearchConfig()
        self.streaming_config = streaming_config
        self.n_context_examples = n_context_examples
        self.draws = Draws(seed)
        self.token_ids = self.syntax.token_ids(
            _required(target_vocab_info.bos_idx, "bos_idx"),
            _required(target_vocab_info.eos_idx, "eos_idx"),
            target_vocab_info.size if special_token_base is None else special_token_base,
        )

    def forward(
        self,
        batch: Seq2SeqBatch,
        return_logits: bool = False,
        return_decoder_inputs: bool = False,
        *,
        objective: Objective | None = None,
    ) -> Tensor | ForwardOutput | DecoderInputs | TrainingLoss:
        """Return the loss of ``batch``, which stays unchanged.

        :param return_logits: return a ``ForwardOutput`` instead.
        :param return_decoder_inputs: return the ``DecoderInputs`` instead, and skip the decoder.
        :param objective: return the ``TrainingLoss`` of this objective instead.
        :returns: the mean negative log-likelihood over all target tokens (text and EOS) of the
            batch, times its number of rows. A 0-d tensor.
        :raises BatchError: training an LLM_ASR_LID model without languages.
        :raises UnknownLanguageError: a language code is not in the model's table.
        """
        asr_batch = self.read_batch(batch)
        if objective is not None:
            return self._training_loss(asr_batch, objective)
        if return_decoder_inputs:
            prompt = self.embed_prompt(asr_batch, self.syntax.prompt)
            return DecoderInputs([prompt.context()], [prompt.layout.context_lens], prompt.audio)
        prompt = self.embed_prompt(asr_batch, self.syntax.parts)
        hidden, layout = self._decode(prompt)
        scale = asr_batch.num_rows / asr_batch.num_target_tokens
        if not return_logits:
            return self._covered_nll(hidden, prompt.layout.labels) * scale
        logits = self.final_proj(hidden)  # (N, S, V)
        loss = nll_sum(logits, prompt.layout.labels.to(logits.device)) * scale
        context, context_lens = [prompt.context()], [prompt.layout.context_lens]
        return ForwardOutput(loss, logits, layout, context, context_lens, prompt.audio)

    def read_batch(self, batch: Seq2SeqBatch) -> AsrBatch:
        """Turn fairseq2's batch into the typed one, with the metadata that this model reads.

        :raises BatchError: the batch is packed, has targets outside the vocabulary, or its
            metadata does not have one entry per row.
        """
        column = self.language_column_name if self.syntax.needs_language else None
        asr_batch = to_asr_batch(batch, column)
        vocab_size = self.target_vocab_info.size
        for i, target in enumerate(asr_batch.targets):
            if not all(0 <= token < vocab_size for token in target):
                raise BatchError(
                    f"The target of row {i} has a token outside the vocabulary of {vocab_size}."
                )
        return asr_batch

    def start_step(self, step_nr: int, rank: int) -> None:
        """Begin a training step: fixes the random draws of the forward passes until the next."""
        for draws in self._all_draws():
            draws.start_step(step_nr, rank)

    def reseed(self, seed: int) -> None:
        """Let all random draws of training come from ``seed``."""
        for draws in self._all_draws():
            draws.reseed(seed)

    def _all_draws(self) -> list[Draws]:
        extractor = self.encoder_frontend.feature_extractor
        more = [extractor.draws] if isinstance(extractor, FilterBankExtractor) else []
        return [self.draws, *more]

    def embed_prompt(self, batch: AsrBatch, parts: Sequence[Part]) -> EmbeddedPrompt:
        """Embed what the decoder reads: the whole sequence, or the prompt of inference.

        :param parts: ``syntax.parts`` or ``syntax.prompt``.
        """
        audio, audio_lens = self.embed_audio(batch.audio, batch.audio_lens)
        return self._embed_rows(self._prompt_rows(batch), parts, audio, audio_lens)

    def embed_audio(
        self, seqs: Tensor, seq_lens: Sequence[int] | Tensor
    ) -> tuple[Tensor, list[int]]:
        """Embed waveforms as decoder positions; row i depends on row i alone.

        :param seqs: waveforms. *Shape:* (N, T).
        :param seq_lens: samples per row.
        :returns: the embedded frames (N, T', M) and the number of frames per row.
        """
        frames, layout = self.encode_audio(seqs, seq_lens)
        return self.project_frames(frames, list(layout.seq_lens))

    def encode_audio(
        self, seqs: Tensor, seq_lens: Sequence[int] | Tensor
    ) -> tuple[Tensor, BatchLayout]:
        """Run the encoder.

        :param seqs: waveforms. *Shape:* (N, T).
        :param seq_lens: samples per row.
        :returns: the encoder's frames (N, S, E) and their layout.
        """
        layout = BatchLayout.of(seqs, _check_lens(seq_lens))
        frontend, extractor = self.encoder_frontend, self.encoder_frontend.feature_extractor
        if extractor is None:
            raise ValueError("`encoder_frontend` must have a feature extractor.")
        # Convolutions read the type of their weights; filter banks are computed in float32.
        weight = next(extractor.parameters(), None)
        seqs = seqs.float() if weight is None else seqs.to(weight.dtype)
        features, layout = extract_by_row(extractor, seqs, layout)
        features = features.to(self.encoder_proj.weight.dtype)
        features = frontend.post_extract_layer_norm(features)
        masker = self.masker if self.training else None
        features, _ = frontend.process_features(features, layout, masker)
        return self.encoder(features, layout), layout

    def project_frames(self, frames: Tensor, seq_lens: list[int]) -> tuple[Tensor, list[int]]:
        """Stack encoder frames and project them; a short tail is filled up with zeros.

        :param frames: *Shape:* (N, S, E).
        :returns: the projected frames (N, T', M) and the number of them per row.
        """
        factor = self.encoder_stacking
        if factor > 1:
            lens = torch.tensor(seq_lens, device=frames.device)
            inside = torch.arange(frames.size(1), device=frames.device) < lens[:, None]
            frames = frames * inside[:, :, None]
            frames = pad(frames, (0, 0, 0, -frames.size(1) % factor))
            frames = frames.reshape(
                frames.size(0), -1, frames.size(2) * factor
            )  # (N, T', E * factor)
            seq_lens = [-(-length // factor) for length in seq_lens]
        return self.encoder_proj(frames), seq_lens

    def embed_text(self, seqs: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed token ids (N, S) as (N, S, M) in ``dtype``."""
        return self.text_frontend(seqs).to(dtype)

    def ctc_logits(self, frames: Tensor) -> Tensor:
        """Return the CTC head's logits (N, S, V) of encoder frames (N, S, E).

        :raises BatchError: the model has no CTC head.
        """
        if self.ctc_head is None:
            raise BatchError("The model has no CTC head; its configuration needs `ctc_head: true`.")
        return self.ctc_head(frames)

    def _training_loss(self, batch: AsrBatch, objective: Objective) -> TrainingLoss:
        """Run the encoder once for both losses."""
        frames, layout = self.encode_audio(batch.audio, batch.audio_lens)
        nll = ctc = frames.new_zeros(())
        if objective.ctc_weight > 0.0:
            ctc = ctc_sum(self.ctc_logits(frames), layout.seq_lens, batch.targets)
        if objective.ctc_weight < 1.0:
            audio, audio_lens = self.project_frames(frames, list(layout.seq_lens))
            rows = self._prompt_rows(batch, objective.token_noise_p)
            prompt = self._embed_rows(rows, self.syntax.parts, audio, audio_lens)
            hidden, _ = self._decode(prompt)
            smoothing = objective.label_smoothing if self.training else 0.0
            nll = self._covered_nll(hidden, prompt.layout.labels, smoothing)
        total = (1.0 - objective.ctc_weight) * nll + objective.ctc_weight * ctc
        return TrainingLoss(total, nll.detach(), ctc.detach())

    def _prompt_rows(self, batch: AsrBatch, token_noise_p: float = 0.0) -> list[PromptRow]:
        """Return what the prompt of each row needs, with the draws of training made."""
        generator = self.draws.next_generator() if self.training else None
        languages = self._language_rows(batch, generator)
        targets = batch.targets if batch.targets else [[]] * batch.num_rows
        shown = targets
        if generator is not None and token_noise_p > 0.0:
            vocab_size = self.target_vocab_info.size
            shown = [replace_tokens(row, vocab_size, token_noise_p, generator) for row in targets]
        columns = zip(languages, targets, shown, strict=True)
        return [PromptRow(i, *column) for i, column in enumerate(columns)]

    def _embed_rows(
        self,
        rows: Sequence[PromptRow],
        parts: Sequence[Part],
        audio: Tensor,
        audio_lens: Sequence[int],
    ) -> EmbeddedPrompt:
        """Gather every position of the prompt from one pool of embeddings."""
        prompts = assemble(parts, self.token_ids, rows)
        layout = lay_out(prompts, audio_lens, audio.size(1))
        pool = [audio.flatten(0, 1), self._embed_ids(self.text_frontend, layout.token_ids, audio)]
        if self.lang_embeddings is not None:
            pool.append(self._embed_ids(self.lang_embeddings, layout.languages, audio))
        pool.append(audio.new_zeros(1, self.model_dim))
        seqs = torch.cat(pool)[layout.index.to(audio.device)]  # (N, S, M)
        return EmbeddedPrompt(seqs, layout, audio)

    def _language_rows(self, batch: AsrBatch, generator: torch.Generator | None) -> list[int]:
        """Return the embedding row to show; in training (``generator``) some rows show none."""
        if not self.syntax.needs_language:
            return [0] * batch.num_rows
        if batch.langs is None:
            if generator is not None:
                raise BatchError(
                    f"Training an {self.model_type.name} model needs the language of each row in"
                    f" the batch's `{self.language_column_name}` column."
                )
            return [0] * batch.num_rows
        rows = [self.lang_mapping.row(code) for code in batch.langs]
        if generator is None:
            return rows
        keep = keep_rows(len(rows), self.lang_embeddings_p, generator)
        return [row if kept else 0 for row, kept in zip(rows, keep, strict=True)]

    def _embed_ids(self, table: StandardEmbedding, ids: Tensor, like: Tensor) -> Tensor:
        return table(ids.to(like.device)).to(like.dtype)

    def _decode(self, prompt: EmbeddedPrompt) -> tuple[Tensor, BatchLayout]:
        longest = max(prompt.layout.seq_lens)
        if longest > self.max_generation_length:
            raise ContextTooLongError(longest, self.max_generation_length)
        layout = BatchLayout.of(prompt.seqs, prompt.layout.seq_lens)
        return self.llama_decoder(prompt.seqs, layout), layout

    def _covered_nll(self, hidden: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the summed loss, with logits for the covered positions alone."""
        labels = labels.to(hidden.device)
        covered = labels != NO_LABEL
        return nll_sum(self.final_proj(hidden[covered]), labels[covered], label_smoothing)

    if TYPE_CHECKING:
        __call__ = forward


def _check_lens(seq_lens: Sequence[int] | Tensor) -> list[int]:
    """Return the samples per row as ints, each enough for a frame."""
    lens = [int(n) for n in (seq_lens.tolist() if isinstance(seq_lens, Tensor) else seq_lens)]
    for row, length in enumerate(lens):
        if length < MIN_SAMPLES:
            raise BatchError(
                f"Row {row} has {length} samples of audio; the encoder needs {MIN_SAMPLES} (25 ms)."
            )
    return lens


def _required(index: int | None, name: str) -> int:
    if index is None:
        raise ValueError(f"`target_vocab_info.{name}` must not be None.")
    return index
