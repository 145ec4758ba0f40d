"""Who may read audio, and when."""

from __future__ import annotations

import io
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from tests.servers import clip, shared_pipeline, wav
from tests.unit.test_pipeline_inference import RATE
from wavellama import TranscribeOptions
from wavellama.server import models
from wavellama.server.models import ServedModel
from wavellama.server.turns import Turns


def test_turns_are_taken_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(2), deque[int]()

    def take(number: int) -> None:
        turns.begin()
        order.append(number)
        turns.end()

    turns.begin()
    turns.give_way()  # to nobody
    turns.begin()
    with ThreadPoolExecutor(5) as pool:
        asked = []
        for number in range(5):
            asked.append(pool.submit(take, number))
            while turns.num_waiting <= number:
                time.sleep(0.001)
        turns.give_way()
        assert [*order] == [*range(5)], "all had waited longer"
        turns.end()
        for one in asked:
            one.result(10)
    turns.end()
    for _ in range(2):
        turns.begin()  # both are free again, else this would wait


def test_hours_of_silence_do_not_hold_up_a_short_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks the model about silence, and so a file of it is read without a rest."""
    monkeypatch.setattr(models, "NUM_READERS", 1)
    model = ServedModel("toy", shared_pipeline(), 60.0)
    order, has_begun = [], Event()

    class Upload(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            has_begun.set()
            return super().read(size)

    def run(name: str, data: bytes) -> None:
        options = TranscribeOptions(no_speech_threshold=1.0)
        model.open(Upload(data), name, options, lambda segments: None).run()
        order.append(name)

    try:
        with ThreadPoolExecutor(2) as pool:
            silence = wav(np.zeros(300 * RATE, np.float32))
            long = pool.submit(run, "long", silence)
            assert has_begun.wait(60)
            pool.submit(run, "short", clip()).result(60)
            assert not long.done()
    finally:
        model.scheduler.close()
    assert order == ["short", "long"]
