"""The Wav2Vec2-Llama network.

Shapes: N rows, C clips, T samples, T' embedded frames, S decoder positions, M decoder width, E
encoder width, V target vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, final

import torch
from fairseq2.data.tokenizers import VocabularyInfo
from fairseq2.datasets import Seq2SeqBatch
from fairseq2.models.asr import AsrModel
from fairseq2.models.transformer import TransformerEncoder
from fairseq2.models.transformer_lm import TransformerLMDecoder
from fairseq2.models.wav2vec2 import Wav2Vec2Frontend, Wav2Vec2Masker
from fairseq2.nn import BatchLayout, Linear, StandardEmbedding
from torch import Tensor
from typing_extensions import override

from wavellama.batch import AsrBatch
from wavellama.errors import BatchError, ConfigError, ContextTooLongError
from wavellama.model.config import Wav2Vec2LlamaStreamingConfig
from wavellama.model.ctc_head import LanguageCtcHead
from wavellama.model.draws import Draws, keep_rows, token_noise
from wavellama.model.features import check_seq_lens, extract_features, stack_frames
from wavellama.model.inputs import (
    InputReader,
    ModelInputs,
    Place,
    TrainingDraws,
    cut,
    in_groups,
    pad,
    put_in_place,
    read_columns,
)
from wavellama.model.language_head import LanguageHead
from wavellama.model.loss import Objective, TrainingLoss, covered_nll, ctc_sum, nll_sum
from wavellama.model.modules import CopyableModule
from wavellama.model.outputs import DecoderInputs, EmbeddedPrompt, ForwardOutput
from wavellama.model.search_config import Wav2Vec2LlamaBeamSearchConfig
from wavellama.model.text_encoder import SegmentTextEncoder
from wavellama.prompt.assemble import PromptRow, assemble
from wavellama.prompt.layout import NO_LABEL, lay_out
from wavellama.prompt.parts import Part
from wavellama.prompt.syntax import Syntax
from wavellama.prompt.syntaxes import ModelType, select_syntax
from wavellama.text.languages import LanguageTable


@final
class Wav2Vec2LlamaModel(CopyableModule, AsrModel):
    """A wav2vec 2.0 encoder whose frames, with text, are read by a Llama decoder.

    It differs from other models that are an ``AsrModel`` in its call: ``forward`` takes a whole
    ``Seq2SeqBatch`` instead of four tensors, since languages, examples and words are part of it.
    """

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
        text_encoder: Callable[[str], Tensor] | None = None,
        n_context_examples: int = 0,
        seed: int = 42,
        zero_shot_swapped_bos_eos: bool = True,
        special_token_base: int | None = None,
        ctc_head: Linear | LanguageCtcHead | None = None,
        language_head: LanguageHead | None = None,
        syntax: Syntax | None = None,
    ) -> None:
        """Take the parts; what is no module means what ``Wav2Vec2LlamaConfig`` says of that name.

        :param masker: the feature masker; acts in training only.
        :param max_generation_length: the longest decoder sequence, context included.
        :param lang_mapping: language code to row of ``lang_embeddings``.
        :param text_encoder: encodes the words of a segment in the training of streaming models.
        :param seed: the seed of the draws that training makes.
        :param ctc_head: the output on the encoder, for CTC.
        :param language_head: the output that hears the language.
        :param syntax: what the decoder reads; None: what the kind of model and its form select.
        :raises SyntaxNotAvailableError: there is no such form of this kind of model.
        """
        super().__init__()
        streaming_config = streaming_config or Wav2Vec2LlamaStreamingConfig()
        self.syntax = syntax or select_syntax(
            model_type,
            streaming=streaming_config.is_streaming,
            text_only=context_text_only,
            swapped_bos_eos=zero_shot_swapped_bos_eos,
        )
        if self.syntax.needs_language and lang_embeddings is None:
            raise ConfigError(f"A model of the syntax {self.syntax.name} needs `lang_embeddings`.")
        self.model_type, self.model_dim = model_type, model_dim
        self.encoder_frontend, self.encoder = encoder_frontend, encoder
        self.encoder_proj = encoder_proj
        self.text_frontend, self.llama_decoder = text_frontend, llama_decoder
        self.final_proj, self.target_vocab_info = final_proj, target_vocab_info
        self.masker, self.lang_embeddings = masker, lang_embeddings
        self.ctc_head, self.language_head = ctc_head, language_head
        self.max_generation_length = max_generation_length
        self.encoder_stacking = encoder_stacking
        self.lang_embeddings_p = lang_embeddings_p
        self.language_column_name = language_column_name
        self.lang_mapping = LanguageTable(lang_mapping or {})
        self.beam_search_config = beam_search_config or Wav2Vec2LlamaBeamSearchConfig()
        self.streaming_config, self.text_encoder = streaming_config, text_encoder
        self.n_context_examples = n_context_examples
        self.draws = Draws(seed)
        info = target_vocab_info
        base = info.size if special_token_base is None else special_token_base
        self.token_ids = self.syntax.token_ids(info.bos_idx, info.eos_idx, base)

    @override
    def forward(  # type: ignore[override]  # see the docstring of the class
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
        :raises BatchError: the batch lacks something that training reads, such as languages.
        :raises UnknownLanguageError: a language code is not in the model's table.
        """
        asr_batch = self.read_batch(batch)
        if objective is not None:
            return self._training_loss(asr_batch, objective)
        inputs = self._training_inputs(asr_batch)
        audio = self._project(self._encode(inputs.clips))
        prompt = self.embed_rows(inputs.rows, self.syntax.parts, audio)
        if return_decoder_inputs:
            return self._decoder_inputs(asr_batch, prompt)
        hidden, layout = self._decode(prompt)
        scale = asr_batch.num_rows / int((prompt.layout.labels != NO_LABEL).sum())
        if not return_logits:
            return covered_nll(self.final_proj, hidden, prompt.layout.labels) * scale
        logits = self.final_proj(hidden)  # (N, S, V)
        loss = nll_sum(logits, prompt.layout.labels.to(logits.device)) * scale
        return ForwardOutput(loss, logits, layout, *self._decoder_inputs(asr_batch, prompt))

    def read_batch(self, batch: Seq2SeqBatch) -> AsrBatch:
        """Return the typed batch, with the metadata that the model reads (see ``read_columns``)."""
        return read_columns(
            *(batch, self.syntax, self.language_column_name, self.target_vocab_info.size)
        )

    def embed_prompt(
        self,
        batch: AsrBatch,
        parts: Sequence[Part] | None = None,
        places: Sequence[Place] | None = None,
    ) -> EmbeddedPrompt:
        """Embed what inference reads: clips that are equal once, and few enough at a time.

        A streaming model reads each utterance as one segment of its audio.

        :param parts: what to read; None: all that stands before the text (``syntax.prompt``).
        :param places: where in their streams the utterances stand, if they are segments.
        :raises BatchError: the batch lacks something that the parts show, such as examples.
        """
        parts = self.syntax.prompt if parts is None else parts
        clips, rows = self._reader().read(batch, parts)
        frames = in_groups(self._encode, clips) if clips else []
        audio = self._project(frames)
        if places is not None:
            rows, audio = put_in_place(rows, audio, places)
        prompt = self.embed_rows(rows, parts, audio)
        own = [frames[row.own.clip] for row in rows if row.own.clip >= 0]
        return prompt._replace(frames=own, languages=[row.language for row in rows])

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
        """Run the encoder over waveforms (N, T); return frames (N, S, E) and their layout."""
        layout = BatchLayout.of(seqs, check_seq_lens(seq_lens))
        masker = self.masker if self.training else None
        dtype = self.encoder_proj.weight.dtype
        features, layout = extract_features(self.encoder_frontend, seqs, layout, dtype)
        features, _ = self.encoder_frontend.process_features(features, layout, masker)
        return self.encoder(features, layout), layout

    def project_frames(self, frames: Tensor, seq_lens: list[int]) -> tuple[Tensor, list[int]]:
        """Stack frames (N, S, E), a short tail filled up with zeros; project them (N, T', M)."""
        frames, seq_lens = stack_frames(frames, seq_lens, self.encoder_stacking)
        return self.encoder_proj(frames), seq_lens

    def embed_text(self, seqs: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed token ids (N, S) as (N, S, M) in ``dtype``."""
        return self.text_frontend(seqs).to(dtype)

    def ctc_logits(
        self,
        frames: Tensor,
        lens: Sequence[int] | None = None,
        languages: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the CTC head's logits (N, S, V) of encoder frames (N, S, E).

        :param lens: frames per row; None means that all rows are full.
        :param languages: of each row, as ``lang_mapping`` numbers it; None or 0: not known.
        :raises BatchError: the model has no CTC head.
        """
        if self.ctc_head is None:
            raise BatchError("The model has no CTC head; its configuration needs `ctc_head: true`.")
        if not isinstance(self.ctc_head, LanguageCtcHead):
            return self.ctc_head(frames)
        num_rows, longest = frames.shape[:2]
        return self.ctc_head(frames, lens or [longest] * num_rows, languages or [0] * num_rows)

    def _training_loss(self, batch: AsrBatch, objective: Objective) -> TrainingLoss:
        inputs = self._training_inputs(batch, objective.token_noise_p)
        frames, items = self._encode(inputs.clips), inputs.items()
        nll = ctc = frames[0].new_zeros(())
        if objective.ctc_weight > 0.0:
            own, lens = pad([frames[item.clip] for item in items])
            logits = self.ctc_logits(own, lens, inputs.item_languages())
            ctc = ctc_sum(logits, lens, [item.target for item in items])
        if objective.ctc_weight < 1.0:
            prompt = self.embed_rows(inputs.rows, self.syntax.parts, self._project(frames))
            hidden, _ = self._decode(prompt)
            smoothing = objective.label_smoothing if self.training else 0.0
            nll = covered_nll(self.final_proj, hidden, prompt.layout.labels, smoothing)
        total = (1.0 - objective.ctc_weight) * nll + objective.ctc_weight * ctc
        num_targets = sum(len(item.target) + 1 for item in items)
        return TrainingLoss(total, nll.detach(), ctc.detach(), num_targets)

    def _training_inputs(self, batch: AsrBatch, token_noise_p: float = 0.0) -> ModelInputs:
        """Return clips and rows of the batch, with the draws of training made."""
        if not self.training:
            return self._reader().read(batch, self.syntax.parts)
        generator = self.draws.next_generator()
        keep = partial(keep_rows, keep_p=self.lang_embeddings_p, generator=generator)
        noise = token_noise(self.target_vocab_info.size, token_noise_p, generator)
        return self._reader().read(batch, self.syntax.parts, TrainingDraws(keep, noise))

    def _reader(self) -> InputReader:
        encode, unk_idx = self.text_encoder, self.target_vocab_info.unk_idx
        return InputReader(
            languages=self.lang_mapping,
            language_column=self.language_column_name,
            num_examples=self.n_context_examples,
            vocab_size=self.target_vocab_info.size,
            streaming=self.streaming_config,
            encode=None if encode is None else SegmentTextEncoder(encode, unk_idx),
        )

    def _encode(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """Return the encoder's frames of each clip, all in one call. (T) -> (S, E) each."""
        frames, layout = self.encode_audio(*pad(clips))
        return cut(frames, layout.seq_lens)

    def _project(self, frames: Sequence[Tensor]) -> list[Tensor]:
        """Return clips as the decoder reads them. (S, E) -> (T', M) each."""
        return cut(*self.project_frames(*pad(frames))) if frames else []

    def _decoder_inputs(self, batch: AsrBatch, prompt: EmbeddedPrompt) -> DecoderInputs:
        """Return the contexts of the texts, and the audio of the rows as a whole."""
        if self.syntax.is_streaming:
            own, _ = self.embed_audio(batch.audio, batch.audio_lens)
        else:
            own, _ = pad(prompt.audio)
        return DecoderInputs(prompt.contexts(), prompt.layout.context_lens, own)

    def embed_rows(
        self, rows: Sequence[PromptRow], parts: Sequence[Part], audio: Sequence[Tensor]
    ) -> EmbeddedPrompt:
        """Gather every position of the prompt from one pool of embeddings.

        :param audio: the embedded clips that the rows name. *Shape of each:* (T', M).
        """
        layout = lay_out(assemble(parts, self.token_ids, rows), [len(clip) for clip in audio])
        like = audio[0] if audio else self.encoder_proj.weight
        pool = [*audio, self._embed_ids(self.text_frontend, layout.token_ids, like)]
        if self.lang_embeddings is not None:
            pool.append(self._embed_ids(self.lang_embeddings, layout.languages, like))
        pool.append(like.new_zeros(1, self.model_dim))
        seqs = torch.cat(pool)[layout.index.to(like.device)]  # (N, S, M)
        own = [audio[row.own.clip] for row in rows if row.own.clip >= 0]
        return EmbeddedPrompt(seqs, layout, own)

    def _embed_ids(self, table: StandardEmbedding, ids: Tensor, like: Tensor) -> Tensor:
        return table(ids.to(like.device)).to(like.dtype)

    def _decode(self, prompt: EmbeddedPrompt) -> tuple[Tensor, BatchLayout]:
        longest = max(prompt.layout.seq_lens)
        if longest > self.max_generation_length:
            raise ContextTooLongError(longest, self.max_generation_length)
        layout = BatchLayout.of(prompt.seqs, prompt.layout.seq_lens)
        return self.llama_decoder(prompt.seqs, layout), layout

    if TYPE_CHECKING:
        __call__ = forward  # type: ignore[assignment]
