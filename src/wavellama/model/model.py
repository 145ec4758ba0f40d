"""The Wav2Vec2-Llama network.

Shapes: N rows, C clips, T samples, T' embedded frames, S decoder positions, M decoder width, E
encoder width, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

import torch
from fairseq2.data.tokenizers import TokenEncoder, VocabularyInfo
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.models.transformer import TransformerEncoder
from fairseq2.models.transformer_lm import TransformerLMDecoder
from fairseq2.models.wav2vec2 import Wav2Vec2Frontend, Wav2Vec2Masker
from fairseq2.nn import BatchLayout, Linear, StandardEmbedding
from torch import Tensor

from wavellama.batch import AsrBatch, BatchColumns, to_asr_batch
from wavellama.errors import BatchError, ConfigError, ContextTooLongError
from wavellama.model.config import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaStreamingConfig
from wavellama.model.copies import CopyableModule
from wavellama.model.draws import Draws, keep_rows, token_noise
from wavellama.model.features import (
    check_seq_lens,
    extract_features,
    stack_frames,
)
from wavellama.model.inputs import (
    ModelInputs,
    embed_in_groups,
    example_inputs,
    plain_inputs,
    segment_inputs,
)
from wavellama.model.loss import Objective, TrainingLoss, ctc_sum, nll_sum
from wavellama.model.mel import MelExtractor
from wavellama.model.outputs import DecoderInputs, EmbeddedPrompt, ForwardOutput
from wavellama.model.text_encoder import SegmentTextEncoder
from wavellama.prompt.assemble import PromptRow, assemble
from wavellama.prompt.layout import NO_LABEL, lay_out
from wavellama.prompt.parts import Part
from wavellama.prompt.syntaxes import ModelType, select_syntax
from wavellama.text.languages import LanguageTable


@final
class Wav2Vec2LlamaModel(CopyableModule):
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
        text_encoder: TokenEncoder | None = None,
        n_context_examples: int = 0,
        seed: int = 42,
        zero_shot_swapped_bos_eos: bool = True,
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
        :param context_text_only: whether the examples of ZERO_SHOT are text without audio.
        :param beam_search_config: the default search of ``generate``.
        :param streaming_config: whether and how audio is cut into segments.
        :param text_encoder: encodes the words of a segment in the training of streaming models.
        :param n_context_examples: how many examples ZERO_SHOT reads.
        :param seed: the seed of the draws that training makes.
        :param zero_shot_swapped_bos_eos: whether ZERO_SHOT reads EOS before its text, BOS after it.
        :param special_token_base: the id of the first special token (default: vocabulary size).
        :param ctc_head: an output layer on the encoder, for CTC.
        :raises SyntaxNotAvailableError: there is no such form of this kind of model.
        """
        super().__init__()
        streaming_config = streaming_config or Wav2Vec2LlamaStreamingConfig()
        self.syntax = select_syntax(
            model_type,
            streaming=streaming_config.is_streaming,
            text_only=context_text_only,
            swapped_bos_eos=zero_shot_swapped_bos_eos,
        )
        if self.syntax.needs_language and lang_embeddings is None:
            raise ConfigError(f"An {model_type.name} model needs `lang_embeddings`.")
        self.model_type, self.model_dim = model_type, model_dim
        self.encoder_frontend, self.encoder = encoder_frontend, encoder
        self.encoder_proj = encoder_proj
        self.text_frontend, self.llama_decoder = text_frontend, llama_decoder
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
        self.text_encoder = text_encoder
        self.n_context_examples = n_context_examples
        self.draws = Draws(seed)
        base = target_vocab_info.size if special_token_base is None else special_token_base
        self.token_ids = self.syntax.token_ids(*control_tokens(target_vocab_info), base)

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
        inputs = self._read_inputs(asr_batch)
        audio, audio_lens = self.embed_audio(inputs.seqs, inputs.seq_lens)
        prompt = self.embed_rows(inputs.rows, self.syntax.parts, audio, audio_lens)
        if return_decoder_inputs:
            own = self._own_audio(asr_batch, audio)
            return DecoderInputs(prompt.contexts(), prompt.layout.context_lens, own)
        hidden, layout = self._decode(prompt)
        scale = asr_batch.num_rows / prompt.layout.num_labels
        if not return_logits:
            return self._covered_nll(hidden, prompt.layout.labels) * scale
        logits = self.final_proj(hidden)  # (N, S, V)
        loss = nll_sum(logits, prompt.layout.labels.to(logits.device)) * scale
        contexts, own = prompt.contexts(), self._own_audio(asr_batch, audio)
        return ForwardOutput(loss, logits, layout, contexts, prompt.layout.context_lens, own)

    def read_batch(self, batch: Seq2SeqBatch) -> AsrBatch:
        """Turn fairseq2's batch into the typed one, with the metadata that this model reads.

        :raises BatchError: the batch is packed, has targets outside the vocabulary, or its
            metadata does not have one entry per row.
        """
        columns = BatchColumns(
            language=self.language_column_name if self.syntax.needs_language else None,
            examples=self.syntax.needs_examples,
            example_audio=self.syntax.needs_example_audio,
            words=self.syntax.is_streaming,
        )
        asr_batch = to_asr_batch(batch, columns)
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
        more = [extractor.draws] if isinstance(extractor, MelExtractor) else []
        return [self.draws, *more]

    def embed_prompt(self, batch: AsrBatch) -> EmbeddedPrompt:
        """Embed the prompt of inference: what the decoder reads before the text.

        Streaming models have one prompt per segment instead (see ``decoding.streaming``).

        :raises BatchError: a ZERO_SHOT model without its examples.
        """
        inputs = self._read_inputs(batch)
        frames, frame_lens = self.encode_clips(inputs.seqs, inputs.seq_lens)
        audio, audio_lens = self.project_frames(frames, frame_lens)
        prompt = self.embed_rows(inputs.rows, self.syntax.prompt, audio, audio_lens)
        own = [row.own.clip for row in inputs.rows]
        return prompt._replace(frames=[frames[clip, : frame_lens[clip]] for clip in own])

    def encode_clips(self, seqs: Tensor, seq_lens: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Encode clips for inference: equal ones once, and few enough at a time for the memory.

        :param seqs: waveforms. *Shape:* (C, T).
        :param seq_lens: samples per clip.
        :returns: the encoder's frames (C, S, E) and the number of frames per clip.
        """

        def encode(seqs: Tensor, seq_lens: list[int]) -> tuple[Tensor, list[int]]:
            frames, layout = self.encode_audio(seqs, seq_lens)
            return frames, list(layout.seq_lens)

        return embed_in_groups(encode, seqs, seq_lens)

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
        layout = BatchLayout.of(seqs, check_seq_lens(seq_lens))
        masker = self.masker if self.training else None
        dtype = self.encoder_proj.weight.dtype
        features, layout = extract_features(self.encoder_frontend, seqs, layout, dtype)
        features, _ = self.encoder_frontend.process_features(features, layout, masker)
        return self.encoder(features, layout), layout

    def project_frames(self, frames: Tensor, seq_lens: list[int]) -> tuple[Tensor, list[int]]:
        """Stack encoder frames and project them; a short tail is filled up with zeros.

        :param frames: *Shape:* (N, S, E).
        :returns: the projected frames (N, T', M) and the number of them per row.
        """
        frames, seq_lens = stack_frames(frames, seq_lens, self.encoder_stacking)
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
        inputs = self._read_inputs(batch, objective.token_noise_p)
        frames, layout = self.encode_audio(inputs.seqs, inputs.seq_lens)
        nll = ctc = frames.new_zeros(())
        items = inputs.items()
        if objective.ctc_weight > 0.0:
            own = frames[[item.clip for item in items]]
            lens = [layout.seq_lens[item.clip] for item in items]
            ctc = ctc_sum(self.ctc_logits(own), lens, [item.target for item in items])
        if objective.ctc_weight < 1.0:
            audio, audio_lens = self.project_frames(frames, list(layout.seq_lens))
            prompt = self.embed_rows(inputs.rows, self.syntax.parts, audio, audio_lens)
            hidden, _ = self._decode(prompt)
            smoothing = objective.label_smoothing if self.training else 0.0
            nll = self._covered_nll(hidden, prompt.layout.labels, smoothing)
        total = (1.0 - objective.ctc_weight) * nll + objective.ctc_weight * ctc
        num_targets = sum(len(item.target) + 1 for item in items)
        return TrainingLoss(total, nll.detach(), ctc.detach(), num_targets)

    def _read_inputs(self, batch: AsrBatch, token_noise_p: float = 0.0) -> ModelInputs:
        """Return clips and rows of the batch, with the draws of training made."""
        generator = self.draws.next_generator() if self.training else None
        languages = self._language_rows(batch, generator)
        shown = token_noise(self.target_vocab_info.size, token_noise_p, generator)
        if self.syntax.needs_examples:
            return example_inputs(batch, self.n_context_examples, shown)
        if self.syntax.is_streaming:
            encode = SegmentTextEncoder(self._text_encoder(), self.target_vocab_info.unk_idx)
            return segment_inputs(batch, languages, self.streaming_config, encode, shown)
        return plain_inputs(batch, languages, shown)

    def _text_encoder(self) -> TokenEncoder:
        if self.text_encoder is None:
            raise ConfigError(
                "Training a streaming model needs `text_encoder`, or the card of a tokenizer in"
                " `streaming_config.text_tokenizer`."
            )
        return self.text_encoder

    def _own_audio(self, batch: AsrBatch, audio: Tensor) -> Tensor:
        """Return the embedded audio of the rows: the first of the clips, or all segments anew."""
        if self.syntax.is_streaming:
            return self.embed_audio(batch.audio, batch.audio_lens)[0]
        return audio[: batch.num_rows]

    def embed_rows(
        self,
        rows: Sequence[PromptRow],
        parts: Sequence[Part],
        audio: Tensor,
        audio_lens: Sequence[int],
    ) -> EmbeddedPrompt:
        """Gather every position of the prompt from one pool of embeddings.

        :param rows: what stands in each row.
        :param parts: ``syntax.parts`` or ``syntax.prompt``.
        :param audio: the embedded clips that the rows name. *Shape:* (C, T', M).
        :param audio_lens: frames per clip.
        """
        prompts = assemble(parts, self.token_ids, rows)
        layout = lay_out(prompts, audio_lens, audio.size(1))
        pool = [audio.flatten(0, 1), self._embed_ids(self.text_frontend, layout.token_ids, audio)]
        if self.lang_embeddings is not None:
            pool.append(self._embed_ids(self.lang_embeddings, layout.languages, audio))
        pool.append(audio.new_zeros(1, self.model_dim))
        seqs = torch.cat(pool)[layout.index.to(audio.device)]  # (N, S, M)
        return EmbeddedPrompt(seqs, layout)

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


def control_tokens(info: VocabularyInfo) -> tuple[int, int]:
    """Return BOS and EOS of a vocabulary, which every syntax needs."""
    if info.bos_idx is None or info.eos_idx is None:
        raise ValueError("`target_vocab_info` must have `bos_idx` and `eos_idx`.")
    return info.bos_idx, info.eos_idx
