"""The bridges of docs/data.md, from other libraries' data sets to ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.test_archive import CLIPS
from tests.pages import code_blocks
from wavellama.audio.load import load_audio
from wavellama.data.manifest import read_manifest

TEXTS: Final = ["one two", "three"]


def _bridge() -> dict[str, Any]:
    """Return what the page's lines define."""
    (block,) = (block for block in code_blocks("docs/data.md") if "def from_lhotse" in block.text)
    names: dict[str, Any] = {}
    exec(block.text, names)
    return names


def _assert_written(folder: Path) -> None:
    utterances = read_manifest(folder / "train.tsv").utterances
    assert [utterance.text for utterance in utterances] == TEXTS
    assert {utterance.lang for utterance in utterances} == {"eng_Latn"}
    for utterance, clip in zip(utterances, CLIPS, strict=False):
        expected = load_audio(clip)
        assert load_audio(utterance.audio).shape == expected.shape
        assert utterance.duration == pytest.approx(len(expected) / 16_000, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("embedded", [True, False])
def test_rows_of_datasets_become_a_manifest(tmp_path: Path, embedded: bool) -> None:
    datasets = pytest.importorskip("datasets", reason="not installed: pip install datasets")
    audio = [
        {"path": str(clip), "bytes": clip.read_bytes() if embedded else None} for clip in CLIPS[:2]
    ]
    rows = datasets.Dataset.from_dict({"audio": audio, "text": TEXTS})
    bridge = _bridge()

    bridge["write_split"](bridge["from_datasets"](rows, "eng_Latn", tmp_path), tmp_path)

    _assert_written(tmp_path)


@pytest.mark.slow
def test_cuts_of_lhotse_become_a_manifest(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse", reason="not installed: pip install lhotse")
    import soundfile

    cuts = []
    for clip, text in zip(CLIPS, TEXTS, strict=False):
        wave = tmp_path / f"{clip.stem}.wav"
        soundfile.write(wave, load_audio(clip).numpy(), 16_000)
        recording = lhotse.Recording.from_file(wave)
        cut = recording.to_cut()
        said = lhotse.SupervisionSegment(
            id=cut.id, recording_id=recording.id, start=0, duration=cut.duration, text=text
        )
        cut.supervisions.append(said)
        cuts.append(cut)
    bridge = _bridge()

    bridge["write_split"](bridge["from_lhotse"](cuts, "eng_Latn", tmp_path), tmp_path)

    _assert_written(tmp_path)
