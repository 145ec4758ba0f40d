"""ZERO_SHOT and streaming: what they read, what they refuse, and that chunking changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from fairseq2.data.tokenizers import load_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import (
    SMALL,
    decoder_inputs_of,
    golden_case,
    golden_model,
    golden_tokenizer,
    loss_of,
    make_batch,
    make_waveforms,
    merge,
    outputs_of,
    tiny_model,
)
from wavellama import ASRInferencePipeline, ContextExample, Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.audio.causal import CausalNormalizer
from wavellama.decoding.streaming import StreamDecoder, StreamState, join_hypotheses
from wavellama.errors import AudioError, BatchError, ConfigError, SyntaxNotAvailableError
from wavellama.model.factory import create_wav2vec2_llama_model
from wavellama.model.inputs import in_groups
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.text_encoder import SegmentTextEncoder
from wavellama.prompt.segments import SegmentCutter, segment_texts
from wavellama.prompt.syntaxes import SYNTAXES, ModelType, select_syntax

GREEDY = Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=12)

STREAMING: dict[str, Any] = {
    "model_type": "LLM_ASR_LID",
    "n_special_tokens": 3,
    "lang_embeddings_p": 1.0,
    "streaming_config": {"is_streaming": True, "segment_secs": 0.25},
}


# Syntaxes


@pytest.mark.parametrize("model_type", list(ModelType))
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("text_only", [False, True])
def test_every_pair_has_one_syntax_or_is_an_error(
    model_type: ModelType, streaming: bool, text_only: bool
) -> None:
    if (model_type, streaming, text_only) in SYNTAXES:
        syntax = select_syntax(model_type, streaming=streaming, text_only=text_only)
        assert syntax.is_streaming is streaming
        assert syntax.needs_example_audio is (syntax.needs_examples and not text_only)
    else:
        with pytest.raises(SyntaxNotAvailableError):
            select_syntax(model_type, streaming=streaming, text_only=text_only)


def test_zero_shot_reads_its_control_tokens_as_declared() -> None:
    """Swapped, EOS stands before the text and BOS after it; what is predicted is the same."""
    swapped = golden_model("zero_shot")
    config = golden_case("zero_shot").config()
    config.zero_shot_swapped_bos_eos = False
    plain = create_wav2vec2_llama_model(config).eval()
    plain.load_state_dict(swapped.state_dict())
    batch = golden_case("zero_shot").utterances.batch([0])
    with torch.no_grad():
        assert loss_of(plain, batch).item() != pytest.approx(loss_of(swapped, batch).item())
        assert len(outputs_of(swapped, batch).decoder_context_seq_lens) == 2
        assert len(outputs_of(plain, batch).decoder_context_seq_lens) == 1


# ZERO_SHOT


def test_another_number_of_examples_is_an_error() -> None:
    case = golden_case("zero_shot")
    context = case.utterances.columns["context_audio"][0]
    batch = make_batch(
        case.utterances.waveforms[:1],
        case.utterances.targets[:1],
        more={
            "context_audio": [{"seqs": context["seqs"][:2], "seq_lens": context["seq_lens"][:2]}],
            "context_text": [{"seqs": torch.tensor([[4], [5]]), "seq_lens": [1, 1]}],
        },
    )
    with pytest.raises(BatchError, match=r"has 2 context examples.* exactly 3"):
        generate(golden_model("zero_shot"), batch, GREEDY)


@pytest.mark.parametrize("name", ["context_audio", "context_text"])
def test_missing_examples_are_an_error(name: str) -> None:
    utterances = golden_case("zero_shot").utterances
    more = {key: rows[:1] for key, rows in utterances.columns.items() if key != name}
    batch = make_batch(utterances.waveforms[:1], utterances.targets[:1], more=more)
    with pytest.raises(BatchError, match=rf"`{name}` must be a list.*is missing"):
        generate(golden_model("zero_shot"), batch, GREEDY)


def test_text_only_examples_need_no_audio() -> None:
    overrides = {"model_type": "ZERO_SHOT", "n_special_tokens": 6, "n_context_examples": 2}
    model = tiny_model(merge(SMALL, {**overrides, "context_text_only": True}), sharpness=4.0)
    texts = [{"seqs": torch.tensor([[4, 5], [6, 1]]), "seq_lens": [2, 1]}]
    other = [{"seqs": torch.tensor([[7, 8], [9, 1]]), "seq_lens": [2, 1]}]
    waveforms = make_waveforms([4000])
    with torch.no_grad():
        output = outputs_of(model, make_batch(waveforms, [[4]], more={"context_text": texts}))
        changed = outputs_of(model, make_batch(waveforms, [[4]], more={"context_text": other}))
    frames = output.audio_embeddings.size(1)
    # ctx_start, 2 x (ex_start, ex_end), 3 tokens, ctx_end, audio, BOS
    assert output.decoder_context_seq_lens == [[1 + 4 + 3 + 1 + frames + 1]]
    assert not torch.allclose(output.loss, changed.loss)


def test_equal_clips_are_encoded_once() -> None:
    seen: list[Tensor] = []

    def encode(clips: Sequence[Tensor]) -> list[Tensor]:
        seen.extend(clips)
        return [clip[:, None] for clip in clips]

    clips = [torch.tensor(values) for values in ([1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0])]
    encoded = in_groups(encode, clips)
    assert [row[:, 0].tolist() for row in encoded] == [[1, 2], [1, 2, 3], [1, 2]]
    assert len(seen) == 2


def _pipeline(name: str) -> ASRInferencePipeline:
    return ASRInferencePipeline(
        None, model=golden_case(name).model(), tokenizer=golden_tokenizer(), dtype=torch.float32
    )


def test_the_pipeline_repeats_or_cuts_the_examples() -> None:
    case = golden_case("zero_shot")
    pipeline = _pipeline("zero_shot")
    clips = [{"waveform": clip, "sample_rate": 16000} for clip in case.utterances.waveforms]
    examples = [ContextExample(clips[i], case.facts["texts"][i]) for i in (1, 2)]
    inputs: Any = clips[:2]
    texts = pipeline.transcribe_with_context(inputs, examples)
    repeated = [*examples, examples[0]]
    assert texts == pipeline.transcribe_with_context(inputs, [repeated, [*repeated, examples[1]]])
    assert texts == pipeline.transcribe_with_context(inputs, examples, batch_size=2)


def test_each_method_names_the_other_on_the_wrong_kind_of_model() -> None:
    clip: Any = {"waveform": torch.randn(8000), "sample_rate": 16000}
    with pytest.raises(ConfigError, match="transcribe_with_context"):
        _pipeline("zero_shot").transcribe(clip)
    with pytest.raises(ConfigError, match="call `transcribe`"):
        _pipeline("llm_asr").transcribe_with_context(clip, [ContextExample(clip, "a")])


@pytest.mark.parametrize("examples", [[], [[]], [[], []]])
def test_an_input_without_examples_is_an_error(examples: Any) -> None:
    clip: Any = {"waveform": torch.randn(8000), "sample_rate": 16000}
    with pytest.raises(BatchError, match="example"):
        _pipeline("zero_shot").transcribe_with_context(clip, examples)


# Streaming


@pytest.fixture(scope="module")
def streaming_model() -> Wav2Vec2LlamaModel:
    return tiny_model(merge(SMALL, STREAMING), sharpness=4.0, dtype=torch.float32)


def test_segments_cover_the_audio_but_for_a_short_tail() -> None:
    assert SegmentCutter(1000, 400).places(400) == [slice(0, 400)]
    assert SegmentCutter(1000, 400).places(1000) == [slice(0, 1000)]
    for over in (1, 399, 400):
        assert SegmentCutter(1000, 400).places(2000 + over) == [slice(0, 1000), slice(1000, 2000)]
    assert SegmentCutter(1000, 400).places(2401)[-1] == slice(2000, 2401)


def test_words_belong_to_the_segment_in_which_they_end() -> None:
    words, durations = ["a", " b", " c", " d"], [0.5, 0.50005, 0.2, 5.0]
    assert segment_texts(words, durations, 1.0, 3) == ["a b", " c", " d"]
    assert segment_texts([], [], 1.0, 2) == ["", ""]


def test_the_text_of_a_segment_keeps_its_leading_space() -> None:
    encode = SegmentTextEncoder(golden_tokenizer().create_encoder(), 3)
    space, *word = encode(" one")
    assert word == encode("one")
    assert encode("o ne")[1] == space
    assert encode("") == []


def test_training_a_streaming_model_needs_timed_words_and_a_tokenizer(
    streaming_model: Wav2Vec2LlamaModel,
) -> None:
    batch = make_batch(make_waveforms([8000], dtype=torch.float32), langs=["eng_Latn"])
    with pytest.raises(BatchError, match="wavellama data align"):
        loss_of(golden_model("streaming"), batch)
    with pytest.raises(ConfigError, match="`text_encoder`"):
        loss_of(streaming_model, batch)


def _timed(words: list[str], durations: list[float]) -> dict[str, list[Any]]:
    """Return the metadata of one row of words."""
    return {"text_words_merged": [words], "word_duration": [durations]}


def _letters(text: str) -> Tensor:
    """Encode x, y and z; a run of other characters is one unknown token, as in sentencepiece."""
    characters = re.sub("[^xyz]+", "?", text)
    return torch.tensor(["?xyz".index(character) + 3 for character in characters])


@pytest.mark.parametrize(("unk_idx", "tokens"), [(3, [3, 4]), (9, [4])])
def test_the_unknown_token_of_the_configuration_is_no_sentinel(
    unk_idx: int, tokens: list[int]
) -> None:
    """Next to a sentinel that is unknown itself, an unknown character would vanish."""
    model = tiny_model(merge(merge(SMALL, STREAMING), {"unk_idx": unk_idx}))
    model.text_encoder = cast("Any", _letters)
    batch = make_batch(make_waveforms([2000]), [[4]], ["eng_Latn"], more=_timed(["?x"], [0.1]))
    output = outputs_of(model, batch)
    (context_len,) = output.decoder_context_seq_lens[0]
    assert output.decoder_inputs_layout.seq_lens == [context_len + len(tokens) + 1]


def test_the_tokenizer_of_the_configuration_encodes_the_words() -> None:
    tokenizer = load_tokenizer("mini_tokenizer")
    size = tokenizer.vocab_info.size
    overrides = merge(merge(SMALL, STREAMING), {"llama_config": {"vocab_size": size}})
    overrides["wav2vec2_asr_config"]["target_vocab_size"] = size
    by_name = {"streaming_config": {"text_tokenizer": "mini_tokenizer"}}
    named, given = tiny_model(merge(overrides, by_name)), tiny_model(overrides)
    given.text_encoder = tokenizer.create_encoder()
    batch = make_batch(
        make_waveforms([8000]), [[4]], ["eng_Latn"], more=_timed(["one", " two"], [0.2, 0.2])
    )
    assert torch.equal(loss_of(named, batch), loss_of(given, batch))
    given.text_encoder = golden_tokenizer().create_encoder()
    assert not torch.equal(loss_of(named, batch), loss_of(given, batch))


@pytest.mark.parametrize(
    ("settings", "segments"),
    [
        ({}, [4000, 4000, 1000]),
        ({"segment_secs": 0.5}, [8000, 1000]),
        ({"min_audio_ms": 63}, [4000, 4000]),
    ],
    ids=str,
)
def test_how_audio_is_cut_is_configured(settings: dict[str, Any], segments: list[int]) -> None:
    """In training as in inference."""
    overrides = merge(merge(SMALL, STREAMING), {"streaming_config": settings})
    model = tiny_model(overrides, dtype=torch.float32)
    model.text_encoder = golden_tokenizer().create_encoder()
    (waveform,) = make_waveforms([9000], dtype=torch.float32)
    inputs = decoder_inputs_of(model, make_batch([waveform], more=_timed(["a"], [0.1])))
    frames = [(length - 400) // 320 + 1 for length in segments]
    around = [4, *[2] * (len(segments) - 1)]  # language, lid; mark, BOS
    lens = [column[0] for column in inputs.decoder_context_seq_lens]
    assert lens == [sum(pair) for pair in zip(frames, around, strict=True)]
    decoder = StreamDecoder(model, GREEDY)
    state = decoder.start()
    assert len(decoder.feed(state, waveform)) == len(segments) - 1
    assert decoder.finish(state)


@pytest.mark.parametrize("num_past", [0, 1, 3])
def test_the_state_of_a_stream_holds_the_configured_past(num_past: int) -> None:
    """And no more, however many segments went by: its tensors do not grow with the audio."""
    overrides = {"streaming_config": {"n_context_segments": num_past}}
    model = tiny_model(merge(merge(SMALL, STREAMING), overrides), dtype=torch.float32)
    decoder = StreamDecoder(model, GREEDY)
    state = decoder.start()
    sizes = []
    for waveform in make_waveforms([4000] * 12, dtype=torch.float32):
        decoder.feed(state, waveform)
        sizes.append(tensor_bytes(state))
    assert state.num_segments == 11
    assert len(state.past) == num_past
    assert len(set(sizes[num_past:])) == 1
    assert sizes == sorted(sizes)


def tensor_bytes(state: StreamState) -> int:
    """Return the bytes of memory that the tensors of a stream keep alive."""
    tensors = [state.waiting, *(segment.audio for segment in state.past)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_rows_without_more_segments_add_nothing_to_the_loss() -> None:
    case, model = golden_case("streaming"), golden_model("streaming")
    with torch.no_grad():
        long, short = (outputs_of(model, case.utterances.batch([row])) for row in (2, 1))
        both = outputs_of(model, case.utterances.batch([2, 1]))
    tokens = [case.facts["n_target_tokens"][row] for row in (2, 1)]
    expected = (long.loss * tokens[0] + short.loss * tokens[1]) / sum(tokens) * 2
    assert both.loss.item() == pytest.approx(expected.item(), abs=1e-5)


def _chunks(waveform: Tensor, cuts: list[int]) -> Iterator[Tensor]:
    places = [0, *sorted(cut % len(waveform) for cut in cuts), len(waveform)]
    for begin, end in pairwise(places):
        yield waveform[begin:end]


@given(
    length=st.integers(500, 14_000),
    cuts=st.lists(st.integers(0, 14_000), max_size=12),
    seed=st.integers(0, 5),
)
def test_chunking_changes_nothing(
    streaming_model: Wav2Vec2LlamaModel, length: int, cuts: list[int], seed: int
) -> None:
    (waveform,) = make_waveforms([length], seed=seed, dtype=torch.float32)
    decoder = StreamDecoder(streaming_model, GREEDY)
    whole, parts = decoder.start("eng_Latn"), decoder.start("eng_Latn")
    expected = [*decoder.feed(whole, waveform), decoder.finish(whole)]
    actual = [result for part in _chunks(waveform, cuts) for result in decoder.feed(parts, part)]
    actual.append(decoder.finish(parts))
    assert actual == expected
    assert len(actual) == len(SegmentCutter(4000, 400).places(length))
    assert len(parts.past) == min(1, len(actual))
    assert len(parts.waiting) == 0


def test_a_stream_of_normalised_audio_equals_the_batch(
    streaming_model: Wav2Vec2LlamaModel,
) -> None:
    (waveform,) = make_waveforms([11_000], dtype=torch.float32)
    decoder = StreamDecoder(streaming_model, GREEDY, normalization="clip")
    state = decoder.start()
    parts = [*decoder.feed(state, waveform), decoder.finish(state)]
    ((joined,),) = generate(streaming_model, make_batch([waveform]), GREEDY)
    assert joined == join_hypotheses([part[0] for part in parts])


def test_causal_statistics_run_over_all_segments() -> None:
    waveform = torch.randn(3000) * 3 + 5
    normalize = CausalNormalizer()
    first, second = normalize(waveform[:1000]), normalize(waveform[1000:])
    torch.testing.assert_close(first, torch.layer_norm(waveform[:1000], (1000,)))
    torch.testing.assert_close(second, torch.layer_norm(waveform, (3000,))[1000:])


def test_too_short_a_stream_and_a_model_that_does_not_stream_are_errors(
    streaming_model: Wav2Vec2LlamaModel,
) -> None:
    decoder = StreamDecoder(streaming_model, GREEDY)
    state = decoder.start()
    decoder.feed(state, torch.zeros(100))
    with pytest.raises(AudioError, match="only 100 samples"):
        decoder.finish(state)
    with pytest.raises(ConfigError, match="reads whole utterances"):
        StreamDecoder(golden_model("llm_asr"))
