"""Do the shards of a job (docs/archives.md) as tasks of Ray Data, not by `wavellama archive work`.

pip install 'ray[data]'
python examples/archive_ray.py JOB [WORKERS]

Each worker loads the model once and has a GPU, where there is one. A shard is done when its part is
there, so that a task that Ray runs again after a node was lost finds its work done; no lease is
needed, since Ray deals out the shards. Workers of both kinds at once may do a shard twice.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
import torch

from wavellama.archive.job import ArchiveJob
from wavellama.archive.worker import transcribe_shard
from wavellama.cli.archive import create_transcribe


class Worker:
    """A process with the model of a job."""

    def __init__(self, folder: str) -> None:
        self.job = ArchiveJob(Path(folder))
        self.transcribe = create_transcribe(self.job, {"device": None, "threads": None})

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the shard that a row names."""
        shard = self.job.shards[row["number"]]
        if not self.job.is_done(shard):
            self.job.finish(shard, *transcribe_shard(self.job.read(shard), self.transcribe))
        return row


def main(folder: str, workers: str = "1") -> None:
    job = ArchiveJob(Path(folder))
    left = [{"number": i} for i, shard in enumerate(job.shards) if not job.is_done(shard)]
    shards = ray.data.from_items(left, override_num_blocks=max(len(left), 1))  # a task for each
    pool = ray.data.ActorPoolStrategy(size=int(workers))
    done = shards.map(
        Worker,
        fn_constructor_args=(folder,),
        compute=pool,
        num_gpus=int(torch.cuda.is_available()),
    )
    print(f"{len(done.take_all())} of {len(left)} shards are done now.")


if __name__ == "__main__":
    main(*sys.argv[1:])
