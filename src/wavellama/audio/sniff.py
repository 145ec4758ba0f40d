"""What arrives through a pipe: samples as they are, or a file of some format."""

from __future__ import annotations

from typing import Final, final

import av

from wavellama.audio.sources import AudioInput, BinaryFile, RawPcm

HEAD_BYTES: Final = 8_192
"""How much is looked at: a quarter of a second of raw audio, and a few frames of any codec."""

BEGINNINGS: Final = (
    *(b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"#!AMR"),
    *(b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75", b"MAC ", b"wvpk", b"\x00\x00\x01\xba"),
)
"""Of wav, aiff, flac, ogg, mp3, caf, au, amr, mkv and webm, flv, wma, ape, wavpack, mpg."""

BOXES: Final = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"styp")
"""What mp4, m4a and mov have after four bytes."""

CODECS: Final = ("mp3", "aac", "ac3")
"""Codecs whose frames stand in a file as they are."""

TS_PACKET: Final = 188


def raw_or_encoded(file: BinaryFile, raw_rate: int) -> AudioInput:
    """Return what a pipe holds: a file if it begins like one, else raw 16-bit mono audio.

    :param raw_rate: of raw audio, in Hz.
    """
    head = b""
    while len(head) < HEAD_BYTES and (more := file.read(HEAD_BYTES - len(head))):
        head += more
    whole = _Whole(head, file)
    return whole if is_encoded(head) else RawPcm(whole, raw_rate)


def is_encoded(head: bytes) -> bool:
    """Say whether a file that begins with ``head`` is more than samples."""
    if head.startswith(BEGINNINGS) or head[4:8] in BOXES:
        return True
    if {head[at : at + 1] for at in range(0, 4 * TS_PACKET, TS_PACKET)} == {b"G"}:
        return True  # the sync byte of MPEG-TS
    return any(_has_frames(head, codec) for codec in CODECS)


def _has_frames(head: bytes, codec: str) -> bool:
    """Say whether frames of a codec follow each other from the first byte on."""
    if not head.startswith((b"\xff", b"\x0b\x77")):
        return False
    packets = av.codec.CodecContext.create(codec, "r").parse(head)
    frames = [bytes(packet)[:2] for packet in packets]
    return len(frames) > 1 and set(frames) == {head[:2]}


@final
class _Whole:
    """A file whose beginning has been read."""

    def __init__(self, head: bytes, file: BinaryFile) -> None:
        self._head, self._file = head, file
        self.name = getattr(file, "name", None)

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        if not self._head:
            return self._file.read(size)
        part, self._head = self._head[:size], self._head[size:]
        return part
