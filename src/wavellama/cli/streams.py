"""Standard streams that are closed, full, or not in UTF-8."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from io import TextIOWrapper

_UTF8 = ("utf-8", "utf8", "ascii", "ansi_x3.4-1968", "646")
"""Encodings of standard output that become UTF-8."""


class _ClosedOutput(TextIOWrapper):
    """Stands in for a closed standard output: flushing what was written to it is an error."""

    def __init__(self) -> None:
        super().__init__(open(os.devnull, "wb"), encoding="utf-8")  # noqa: SIM115
        self._is_used = False

    def write(self, text: str, /) -> int:
        self._is_used = self._is_used or bool(text)
        return len(text)

    def flush(self) -> None:
        if self._is_used:
            self._is_used = False
            raise OSError(errno.EBADF, "standard output is closed")


class _Notes(TextIOWrapper):
    """Standard error; a note that cannot be written does not end the work that it is about."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Let all three standard streams be there, and standard output write any text."""
    for fd in range(3):  # or the next file that is opened would become a standard stream
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or _ClosedOutput()
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if type(sys.stderr) is TextIOWrapper:
        encoding, buffer = sys.stderr.encoding, sys.stderr.detach()
        sys.stderr = _Notes(buffer, encoding, "backslashreplace", line_buffering=True)
    if isinstance(sys.stdout, TextIOWrapper):
        _let_any_text_out(sys.stdout)


def _let_any_text_out(output: TextIOWrapper) -> None:
    """Let names of files that are not UTF-8 go out as they are, and every letter somehow.

    Texts are UTF-8 where the encoding is ASCII, as on a machine without a language; in any other
    encoding, characters that it lacks are escaped.
    """
    if output.encoding.lower() in _UTF8:
        output.reconfigure(encoding="utf-8", errors="surrogateescape")
    elif output.errors == "strict":
        output.reconfigure(errors="backslashreplace")


def flush_output(code: int) -> int:
    """Write what is still to be written to standard output; return the exit code.

    :param code: the exit code if that succeeds.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # whoever reads it has enough
    except OSError as ex:
        print(f"error: standard output: {ex.strerror or ex}.", file=sys.stderr)
        code = code or 1
    else:
        return code
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more
    return code
