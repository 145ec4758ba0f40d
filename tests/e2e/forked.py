"""The command line in forks of one process that has imported everything.

A start of the real program takes six seconds of processor time, nearly all of it imports. A fork
is a process of its own, too, with its own folder, environment, output and exit code; only the
imports are done. Each command runs as the real program as well (``run_cli``, ``run_module``), with
success and with each of its exit codes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

TIMEOUT_SECS: Final = 300

CONTEXT: Final = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        # The command line's own order, then what fairseq2 imports in the middle of a run.
        *("wavellama.cli.main", "wavellama.tasks.train", "wavellama.tasks.evaluate"),
        *("wavellama.tasks.transcribe", "wavellama.cli.failure", "wavellama.extension"),
        *(
            "wavellama.pipeline.inference",
            "wavellama.checkpoints.convert",
            "wavellama.alignment.dataset",
        ),
        *("fairseq2.recipe.composition", "matplotlib.backends.backend_agg", "rich.logging", "s3fs"),
    ]
)


def run_forked(
    *args: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``wavellama ARGS`` in a fork and return what it printed and its exit code.

    :raises subprocess.TimeoutExpired: it took longer than ``TIMEOUT_SECS``.
    """
    words = [str(arg) for arg in args]
    with TemporaryDirectory() as name:
        folder = Path(name)
        process = CONTEXT.Process(target=be_the_program, args=(words, folder, cwd, dict(env or {})))
        process.start()
        process.join(TIMEOUT_SECS)
        code = process.exitcode
        if code is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, TIMEOUT_SECS)
        out, err = ((folder / part).read_text("utf-8") for part in ("stdout", "stderr"))
    return subprocess.CompletedProcess(words, code, out, err)


def run_forked_world(
    size: int, *args: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``wavellama ARGS`` as ``size`` processes of one run; return the first one that failed.

    If all went well, what rank 0 printed.
    """
    with socket.socket() as server:
        server.bind(("localhost", 0))
        port = server.getsockname()[1]

    def run(rank: int) -> subprocess.CompletedProcess[str]:
        world = {"WORLD_SIZE": size, "RANK": rank, "MASTER_PORT": port}
        world |= {"LOCAL_WORLD_SIZE": size, "LOCAL_RANK": rank}
        env = {name: str(value) for name, value in world.items()}
        return run_forked(*args, cwd=cwd, env={**env, "MASTER_ADDR": "localhost"})

    with ThreadPoolExecutor(size) as pool:
        results = list(pool.map(run, range(size)))
    return next((result for result in results if result.returncode), results[0])


def be_the_program(args: list[str], folder: Path, cwd: Path | None, env: Mapping[str, str]) -> None:
    """Be the program: this process ends when its main function does."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        with (folder / name).open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(cwd or ".")
    os.environ.update(env, OMP_NUM_THREADS="1")
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))  # as a start does
    sys.argv = ["wavellama"]
    from wavellama.cli.main import main

    main(args)
