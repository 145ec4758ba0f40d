"""Makes fairseq2's native library loadable without root.

fairseq2n links against the system's ``libsndfile.so.1``. Where the system has none, the copy that
the ``soundfile`` wheel carries has the same SONAME; loading it globally before fairseq2 is
imported satisfies the linker.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

_SONAME = "libsndfile.so.1"


def ensure_libsndfile() -> None:
    """Load libsndfile from the system, or from the soundfile wheel where the system has none.

    Does nothing on platforms other than Linux, whose fairseq2n finds its library by itself.
    """
    if platform.system() != "Linux":
        return
    _forget_foreign_conda()
    if load_globally(_SONAME):
        return
    bundled = bundled_libsndfile()
    if bundled is not None:
        load_globally(str(bundled))


def _forget_foreign_conda() -> None:
    """Hide a conda environment that is active but is not the one that runs this Python.

    fairseq2n would look for its libraries there and nowhere else.
    """
    if os.environ.get("CONDA_PREFIX", sys.prefix) != sys.prefix:
        del os.environ["CONDA_PREFIX"]


def bundled_libsndfile() -> Path | None:
    """Return the path of the libsndfile that the soundfile wheel carries, if it carries one."""
    spec = find_spec("_soundfile_data")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("libsndfile*.so")):
            return path
    return None


def load_globally(name: str) -> bool:
    """Load a library with its symbols for all; return whether there is one of that name."""
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True
