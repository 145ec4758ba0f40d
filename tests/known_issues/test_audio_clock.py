"""Sound lies where the clock of a player says: what begins late, holes, edit lists, jumps."""

from __future__ import annotations

import io
import re
import resource
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch

from tests.containers import Sound, onsets, write_container
from wavellama.audio.load import load_audio
from wavellama.audio.stream import probe_duration, stream_audio
from wavellama.audio.tracks import EVERYTHING, Selection
from wavellama.data.check import audio_lengths
from wavellama.units import SAMPLE_RATE, samples_to_seconds

CODECS = {
    **{".mkv": "aac", ".mp4": "aac", ".mov": "alac", ".webm": "libopus", ".ts": "mp2"},
    **{".mka": "flac", ".m4a": "aac", ".nut": "pcm_s16le"},
}
"""Formats, and a codec for each."""

RATES = {"libopus": 48_000}

TOLERANCE = 0.1


def _sound(suffix: str, **changes: object) -> Sound:
    codec = CODECS[suffix]
    return Sound(codec=codec, rate=RATES.get(codec, 16_000), **changes)  # type: ignore[arg-type]


def _check(path: Path, expected: list[float], secs: float) -> None:
    waveform = load_audio(path)
    assert onsets(waveform) == pytest.approx(expected, abs=TOLERANCE)
    assert samples_to_seconds(len(waveform)) == pytest.approx(secs, abs=TOLERANCE)
    assert probe_duration(path) == pytest.approx(samples_to_seconds(len(waveform)), abs=TOLERANCE)
    with path.open("rb") as file:
        torch.testing.assert_close(load_audio(file), waveform)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".webm", ".ts", ".nut"])
def test_sound_that_begins_after_the_picture(suffix: str, tmp_path: Path) -> None:
    sound = _sound(suffix, start=4.0)
    path = write_container(tmp_path / f"late{suffix}", sound, picture_secs=6)
    _check(path, [4.6, 5.9, 7.4], 8.5)


@pytest.mark.parametrize("suffix", CODECS)
def test_packets_that_were_lost_are_silent(suffix: str, tmp_path: Path) -> None:
    path = write_container(tmp_path / f"hole{suffix}", _sound(suffix, holes=((1.0, 3.0),)))
    _check(path, [0.6, 3.4], 4.5)


@pytest.mark.parametrize("suffix", CODECS)
def test_nothing_is_lost(suffix: str, tmp_path: Path) -> None:
    path = write_container(tmp_path / f"whole{suffix}", _sound(suffix))
    _check(path, [0.6, 1.9, 3.4], 4.5)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".nut"])
def test_the_clock_of_a_recording_may_begin_anywhere(suffix: str, tmp_path: Path) -> None:
    path = write_container(tmp_path / f"a{suffix}", _sound(suffix, start=3600.0))
    _check(path, [0.6, 1.9, 3.4], 4.5)


def test_a_pipe_has_the_same_clock(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", _sound(".mkv", holes=((1.0, 3.0),)))

    class Pipe:
        def __init__(self) -> None:
            self._file = io.BytesIO(path.read_bytes())

        def read(self, size: int) -> bytes:
            return self._file.read(size)

    assert onsets(load_audio(Pipe())) == pytest.approx([0.6, 3.4], abs=TOLERANCE)


def test_data_check_has_the_same_clock(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", _sound(".mkv", start=2.0), picture_secs=1)
    (length,) = audio_lengths([(path, EVERYTHING)]).values()
    assert length == pytest.approx(6.5, abs=TOLERANCE)


@pytest.mark.parametrize("jitter", [0.004, 0.03])
def test_jitter_changes_no_sample(jitter: float, tmp_path: Path) -> None:
    steady = write_container(tmp_path / "steady.mkv", _sound(".mka"))
    trembling = write_container(tmp_path / "trembling.mkv", _sound(".mka", jitter=jitter))
    expected, waveform = load_audio(steady), load_audio(trembling)
    assert len(waveform) == pytest.approx(len(expected), abs=2 * jitter * SAMPLE_RATE)
    # Both from the first burst on: the first time stamp says when that is.
    begins = [int(audio.ne(0).nonzero()[0]) for audio in (waveform, expected)]
    assert torch.equal(waveform[begins[0] :], expected[begins[1] :])


def test_of_what_overlaps_the_first_wins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = _sound(".mka", shifts=((2.5, -1.5),))
    path = write_container(tmp_path / "back.nut", sound)
    # From 2.5 s on, time stamps begin at 1.0 s again: up to there, 1.5 s are left out.
    assert onsets(load_audio(path)) == pytest.approx([0.6, 1.9], abs=TOLERANCE)
    assert re.search(r"time goes back; 1\.[45] s of sound are left out", caplog.text)


def test_a_broadcast_whose_clock_is_set_anew_goes_on(tmp_path: Path) -> None:
    sounds = Sound(codec="mp2", secs=4.5)
    one = write_container(tmp_path / "one.ts", sounds).read_bytes()
    (tmp_path / "two.ts").write_bytes(one + one)
    expected = [0.6, 1.9, 3.4, 5.1, 6.4, 7.9]
    assert onsets(load_audio(tmp_path / "two.ts")) == pytest.approx(expected, abs=0.15)


def test_a_track_that_begins_on_the_way_is_no_error(tmp_path: Path) -> None:
    sound = Sound(codec="mp2", secs=4.5)
    data = [
        write_container(tmp_path / f"{count}.ts", *[sound] * count).read_bytes() for count in (1, 3)
    ]
    (tmp_path / "a.ts").write_bytes(data[0] + data[1])
    for _ in range(5):  # whether PyAV is wrong depends on what lies in memory
        assert onsets(load_audio(tmp_path / "a.ts"))[:3] == pytest.approx([0.6, 1.9, 3.4], abs=0.1)


def test_time_stamps_beyond_all_measure_are_no_hole(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.nut", _sound(".nut", shifts=((1.5, 1e6),)))
    assert onsets(load_audio(path)) == pytest.approx([0.6, 1.9, 3.4], abs=TOLERANCE)


def test_a_hole_of_ten_hours_takes_no_memory(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mka", _sound(".mka", shifts=((1.5, 36_000.0),)))
    tracemalloc.start()
    num_samples = largest = 0
    for block in stream_audio(path):
        num_samples += len(block)
        largest = max(largest, len(block))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples_to_seconds(num_samples) == pytest.approx(36_004.5, abs=TOLERANCE)
    assert largest < 20 * SAMPLE_RATE
    assert peak < 2**24


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_mp3_without_an_index_is_walked_through(rate: int, tmp_path: Path) -> None:
    """By its first packets, which are silent and small, it would be several times as long."""
    path = tmp_path / "vbr.mp3"
    sound = Sound(codec="libmp3lame", rate=rate, secs=30.0, onsets=[20 + i / 4 for i in range(40)])
    with av.open(str(path), "w", options={"write_xing": "0", "id3v2_version": "0"}) as output:
        _write_mp3(output, sound)
    secs = samples_to_seconds(len(load_audio(path)))
    assert secs == pytest.approx(30.0, abs=TOLERANCE)
    assert probe_duration(path) == pytest.approx(secs, abs=0.01)


def _write_mp3(output: av.container.OutputContainer, sound: Sound) -> None:
    from tests.containers import add_stream, encode_sound

    stream = add_stream(output, sound)
    stream.codec_context.options = {"compression_level": "9"}
    for packet in encode_sound(stream, sound):
        output.mux(packet)


def test_a_second_recording_of_another_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mono = write_container(tmp_path / "a.ogg", Sound(codec="libopus", rate=48_000, gains=(1.0,)))
    path = tmp_path / "chained.ogg"
    other = write_container(tmp_path / "b.ogg", Sound(codec="flac", rate=22_050, gains=(1.0, 1.0)))
    path.write_bytes(mono.read_bytes() + other.read_bytes())
    assert onsets(load_audio(path))[:3] == pytest.approx([0.6, 1.9, 3.4], abs=TOLERANCE)
    assert "it goes on with a recording of another kind" in caplog.text
    assert probe_duration(path) == pytest.approx(4.5, abs=TOLERANCE)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".nut"])
@pytest.mark.parametrize("picture_secs", [1.0, 20.0])
def test_the_duration_is_that_of_the_sound(
    picture_secs: float, suffix: str, tmp_path: Path
) -> None:
    sounds = [_sound(suffix), _sound(suffix, secs=7.0, start=1.0)]
    path = write_container(tmp_path / f"a{suffix}", *sounds, picture_secs=picture_secs)
    for track, secs in ((1, 4.5), (2, 8.0)):
        assert probe_duration(path, Selection(track)) == pytest.approx(secs, abs=TOLERANCE)


def test_recordings_that_were_strung_together_are_one(tmp_path: Path) -> None:
    data = write_container(tmp_path / "a.ogg", Sound(codec="libopus", rate=48_000)).read_bytes()
    path = tmp_path / "two.ogg"
    path.write_bytes(data + data)
    expected = [0.6, 1.9, 3.4, 5.1, 6.4, 7.9]
    waveform = load_audio(path)
    assert onsets(waveform) == pytest.approx(expected, abs=TOLERANCE)
    assert probe_duration(path) == pytest.approx(9.0, abs=TOLERANCE)


@pytest.mark.parametrize("codec", ["OPUS", "VORBIS"])
def test_short_recordings_that_were_strung_together_are_one(codec: str, tmp_path: Path) -> None:
    rate, secs = 48_000, 0.7635
    sound = np.where(np.arange(round(rate * secs)) < 0.4 * rate, 0.0, 0.1)
    sound *= np.random.default_rng(0).choice([-1.0, 1.0], len(sound))
    soundfile.write(tmp_path / "a.ogg", sound, rate, format="OGG", subtype=codec)
    path = tmp_path / "three.ogg"
    path.write_bytes(3 * _on_one_page(tmp_path / "a.ogg").read_bytes())
    waveform = load_audio(path)
    assert onsets(waveform) == pytest.approx([0.4, 0.4 + secs, 0.4 + 2 * secs], abs=TOLERANCE)
    assert len(waveform) / SAMPLE_RATE == pytest.approx(3 * secs, abs=TOLERANCE)
    assert probe_duration(path) == pytest.approx(3 * secs, abs=TOLERANCE)


def _on_one_page(path: Path) -> Path:
    """Return an Ogg file with the same packets, on one page."""
    out, options = path.with_name("page.ogg"), {"page_duration": "10000000"}
    with av.open(path) as source, av.open(out, "w", options=options) as output:
        track = source.streams.audio[0]
        stream = output.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return out


def test_a_hole_of_a_waveform_takes_no_memory(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mka", _sound(".mka", shifts=((1.5, 36_000.0),)))
    before = _resident_bytes()
    waveform = load_audio(path)
    assert waveform.nbytes > 2.3e9
    assert _resident_bytes() - before < 2**28


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
