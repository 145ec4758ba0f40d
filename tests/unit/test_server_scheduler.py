"""The scheduler: who goes first, who goes together, and who is let go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from threading import Event, current_thread
from time import sleep

import pytest

from wavellama.pipeline.attempts import Fault
from wavellama.pipeline.scribes import Written
from wavellama.server.scheduler import BATCHES, Batch, Client, ClientGoneError, Scheduler
from wavellama.units import SAMPLE_RATE


class Recorder:
    """A scribe that notes batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.busy, self.free = Event(), Event()

    def write(self, rows: list[str]) -> list[Written]:
        assert current_thread().name == "model"
        self.busy.set()
        assert self.free.wait(10)
        if "bug" in rows:
            raise ValueError("bug")
        self.batches.append(rows)
        return [Fault(row) for row in rows]


class Crowd:
    """Clients who ask at the same time, while the model is busy with a first piece."""

    def __init__(self, scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
        self._scheduler, self._pool = scheduler, pool
        self.scribe = Recorder()
        self.ask(Client("first"), "first")
        assert self.scribe.busy.wait(10)

    def ask(self, client: Client, *rows: str, secs: float = 1.0) -> Future[list[Written]]:
        """Ask in another thread; return once the rows wait."""
        before = self._scheduler.num_waiting
        sizes = [int(secs * SAMPLE_RATE)] * len(rows)
        asked = self._pool.submit(self._scheduler.write, client, self.scribe, rows, sizes)
        while rows != ("first",) and self._scheduler.num_waiting == before and not asked.done():
            pass
        return asked

    def release(self) -> list[list[str]]:
        """Let the model work; return the batches after the first piece."""
        self.scribe.free.set()
        self._pool.shutdown()
        return self.scribe.batches[1:]


@pytest.fixture
def batches() -> list[Batch]:
    return []


@pytest.fixture
def scheduler(batches: list[Batch]) -> Iterator[Scheduler]:
    scheduler = Scheduler(10.0, batches.append)
    yield scheduler
    scheduler.close()


@pytest.fixture
def crowd(scheduler: Scheduler) -> Crowd:
    return Crowd(scheduler, ThreadPoolExecutor(32))


def test_the_model_works_on_after_its_only_client_left(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavellama.server.scheduler.LINGER_SECS", 0.3)
    scribe, client = Recorder(), Client("a")
    scribe.free.set()
    with ThreadPoolExecutor(2) as pool:
        left = pool.submit(scheduler.write, client, scribe, ["left"], [SAMPLE_RATE])
        while not scheduler.num_waiting and not left.done():
            pass
        scheduler.drop(client)
        sleep(0.6)  # the thread has lingered, and found nobody
        stayed = pool.submit(scheduler.write, Client("a"), scribe, ["stayed"], [SAMPLE_RATE])
        try:
            assert stayed.result(10) == [Fault("stayed")]
        finally:
            scheduler.close()
    assert isinstance(left.exception(), ClientGoneError)


def test_clients_of_one_kind_share_batches(crowd: Crowd, batches: list[Batch]) -> None:
    asked = [crowd.ask(Client("a"), f"{i}") for i in range(4)]
    assert crowd.release() == [["0", "1", "2", "3"]]
    assert [one.result() for one in asked] == [[Fault(f"{i}")] for i in range(4)]
    last = batches[-1]
    assert (last.num_rows, last.audio_secs, len(last.queue_secs)) == (4, 4.0, 4)


def test_kinds_do_not_mix(crowd: Crowd) -> None:
    for i in range(4):
        crowd.ask(Client("ab"[i % 2]), f"{i}")
    assert crowd.release() == [["0", "2"], ["1", "3"]]


def test_a_batch_has_no_more_than_it_may_padding_included(crowd: Crowd) -> None:
    crowd.ask(Client("a"), "long", secs=4.0)
    for i in range(3):
        crowd.ask(Client("a"), f"short {i}", secs=1.0)
    crowd.ask(Client("a"), "long too", secs=5.0)
    assert crowd.release() == [["long", "long too"], ["short 0", "short 1", "short 2"]]


def test_what_is_longer_than_a_batch_goes_alone(crowd: Crowd) -> None:
    crowd.ask(Client("a"), "endless", secs=40.0)
    crowd.ask(Client("a"), "short")
    assert crowd.release() == [["endless"], ["short"]]


def test_somebody_with_much_does_not_keep_others_waiting(crowd: Crowd) -> None:
    crowd.ask(Client("a"), *(f"much {i}" for i in range(40)), secs=2.0)
    for i in range(3):
        crowd.ask(Client("a"), f"little {i}", secs=2.0)
    crowd.ask(Client("b"), "other", secs=2.0)
    first, second, third, *_ = crowd.release()
    assert first == ["much 0", "little 0", "little 1", "little 2", "much 1"]
    assert second == ["other"]
    assert third == [f"much {i}" for i in range(2, 7)]


def test_who_speaks_goes_first(crowd: Crowd) -> None:
    crowd.ask(Client("a"), "file")
    crowd.ask(Client("a", is_live=True), "live")
    crowd.ask(Client("a", is_live=True), "live too")
    assert crowd.release() == [["live", "live too"], ["file"]]


def test_who_is_dropped_is_forgotten_and_told(scheduler: Scheduler, crowd: Crowd) -> None:
    gone = Client("a")
    asked, other = crowd.ask(gone, "gone"), crowd.ask(Client("a"), "other")
    scheduler.drop(gone)
    with pytest.raises(ClientGoneError):
        asked.result(10)
    with pytest.raises(ClientGoneError):
        scheduler.write(gone, crowd.scribe, ["again"], [1])
    assert crowd.release() == [["other"]]
    assert other.result() == [Fault("other")]


def test_a_bug_costs_its_batch_alone(crowd: Crowd) -> None:
    bad, good = crowd.ask(Client("a"), "bug"), crowd.ask(Client("b"), "good")
    crowd.release()
    with pytest.raises(ValueError, match="bug"):
        bad.result(10)
    assert good.result(10) == [Fault("good")]


def test_closing_tells_all_who_wait(scheduler: Scheduler, crowd: Crowd) -> None:
    asked = crowd.ask(Client("a"), "late")
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(scheduler.close)
        with pytest.raises(ClientGoneError):
            asked.result(10)
        crowd.scribe.free.set()
        closing.result(10)
    with pytest.raises(ClientGoneError):
        scheduler.write(Client("a"), crowd.scribe, ["later"], [1])


# Pieces that join the ones that are being written


class Steps:
    """A scribe whose pieces take as many steps as their names say: "a 3" takes three."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        """The pieces of each step."""

        self.on_step: Callable[[], object] = lambda: None
        """Is called within each step."""

    def write(self, rows: list[str]) -> list[Written]:
        raise AssertionError("they can join")

    def start(self, rows: list[str]) -> StepsWriting | None:
        if "bug in start" in rows:
            raise ValueError("bug in start")
        return StepsWriting(self, rows)


class StepsWriting:
    def __init__(self, scribe: Steps, rows: list[str]) -> None:
        self._scribe, self._left = scribe, {row: int(row.split()[-1]) for row in rows}

    @property
    def clips(self) -> list[str]:
        return list(self._left)

    def step(self) -> list[tuple[str, Written]]:
        assert current_thread().name == "model"
        self._scribe.seen.append(self.clips)
        self._scribe.on_step()
        self._left = {row: left - 1 for row, left in self._left.items()}
        done = [row for row, left in self._left.items() if left == 0]
        for row in done:
            del self._left[row]
        return [(row, Fault(row)) for row in done]

    def join(self, other: StepsWriting) -> None:
        assert self._left, "the others have ended"
        self._left |= other._left

    def leave(self, clips: list[str]) -> None:
        for clip in clips:
            del self._left[clip]


class StepwiseCrowd:
    """Clients who ask at certain steps, in other threads."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._pool = scheduler, ThreadPoolExecutor(32)
        self.scribe = Steps()

    def ask(
        self, *rows: str, secs: float = 1.0, client: Client | None = None
    ) -> Future[list[Written]]:
        """Ask, of a held model; return once the rows wait."""
        client, before = client or Client("a"), self._scheduler.num_waiting
        sizes = [int(secs * SAMPLE_RATE)] * len(rows)
        asked = self._pool.submit(self._scheduler.write, client, self.scribe, rows, sizes)
        while self._scheduler.num_waiting == before:
            pass
        return asked

    def begin(self, row: str, *then: Callable[[], object], secs: float = 1.0) -> list[list[str]]:
        """Ask for a piece, and do something more in each step; return the pieces of all steps."""
        left = list(then)
        self.scribe.on_step = lambda: left.pop(0)() if left else None
        scribe, size = self.scribe, int(secs * SAMPLE_RATE)
        assert self._scheduler.write(Client("a"), scribe, [row], [size]) == [Fault(row)]
        self._pool.shutdown()
        return self.scribe.seen


@pytest.fixture
def stepwise(scheduler: Scheduler) -> StepwiseCrowd:
    return StepwiseCrowd(scheduler)


def test_pieces_join_and_leave_between_steps(stepwise: StepwiseCrowd, batches: list[Batch]) -> None:
    asked = list[Future[list[Written]]]()

    def ask() -> None:
        asked.append(stepwise.ask("b 2"))

    def look() -> None:
        assert asked[0].result(10) == [Fault("b 2")]

    steps = stepwise.begin("a 5", lambda: None, ask, lambda: None, lambda: None, look)
    assert steps == [["a 5"], ["a 5"], ["a 5", "b 2"], ["a 5", "b 2"], ["a 5"]]
    assert [(batch.num_rows, batch.audio_secs) for batch in batches] == [(1, 1.0), (2, 1.0)]


def test_a_client_that_leaves_takes_its_pieces_along(
    scheduler: Scheduler, stepwise: StepwiseCrowd
) -> None:
    gone, other = Client("a"), Client("b")
    asked = list[Future[list[Written]]]()

    def ask() -> None:
        asked.append(stepwise.ask("gone 9", "gone, too 9", client=gone))
        asked.append(stepwise.ask("other 9", client=other))

    def leave() -> None:
        scheduler.drop(gone)
        scheduler.drop(other)

    steps = stepwise.begin("a 5", ask, lambda: None, lambda: None, leave)
    together = ["a 5", "gone 9", "gone, too 9"]
    assert [step for step in steps if step != ["other 9"]][:2] == [["a 5"], together]
    assert steps[-1] == ["a 5"], "nothing is done for those who left"
    for one in asked:
        with pytest.raises(ClientGoneError):
            one.result(10)
    assert scheduler.write(Client("b"), stepwise.scribe, ["b 1"], [1]) == [Fault("b 1")]


def test_nobody_joins_another_kind(stepwise: StepwiseCrowd) -> None:
    other = Client("b")
    steps = stepwise.begin("a 3", lambda: stepwise.ask("b 2", client=other))
    assert steps[0] == ["a 3"]
    assert sorted(steps[1:]) == [["a 3"], ["a 3"], ["b 2"], ["b 2"]]


def test_pieces_join_as_far_as_there_is_room(stepwise: StepwiseCrowd) -> None:
    """Four batches of ten seconds; the next one begins when there is room for all of it."""

    def ask() -> None:
        for i in range(8):
            stepwise.ask(f"{i} {i + 2}", secs=5.0)

    steps = stepwise.begin("a 4", ask, secs=9.0)
    news = [[row for row in step if row not in before] for before, step in pairwise([[], *steps])]
    names = [[row.split()[0] for row in new] for new in news if new]
    assert names == [["a"], ["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]]
    assert max(len(step) for step in steps) * 5 <= BATCHES * 10


def test_what_is_longer_than_all_of_it_goes_alone(stepwise: StepwiseCrowd) -> None:
    steps = stepwise.begin("a 3", lambda: stepwise.ask("endless 2", secs=100.0))
    assert steps == [["a 3"]] * 3 + [["endless 2"]] * 2


def test_others_stand_still_while_somebody_speaks(stepwise: StepwiseCrowd) -> None:
    live = Client("live", is_live=True)
    steps = stepwise.begin("a 3", lambda: stepwise.ask("b 2", client=live, secs=100.0))
    assert steps == [["a 3"], ["b 2"], ["b 2"], ["a 3"], ["a 3"]]


def test_a_bug_in_a_step_costs_those_in_it(
    scheduler: Scheduler, stepwise: StepwiseCrowd, batches: list[Batch]
) -> None:
    asked = list[Future[list[Written]]]()

    def bug() -> None:
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        stepwise.begin("a 5", lambda: asked.append(stepwise.ask("b 2")), bug)
    with pytest.raises(ValueError, match="bug"):
        asked[0].result(10)
    scribe, num_batches = Steps(), len(batches)
    with pytest.raises(ValueError, match="bug in start"):
        scheduler.write(Client("a"), scribe, ["bug in start"], [1])
    assert len(batches) == num_batches
    assert scheduler.write(Client("a"), scribe, ["c 1"], [1]) == [Fault("c 1")]


def test_closing_waits_for_what_is_being_written(
    scheduler: Scheduler, stepwise: StepwiseCrowd
) -> None:
    closing = list[Future[None]]()
    with ThreadPoolExecutor(1) as pool:
        steps = stepwise.begin("a 3", lambda: closing.append(pool.submit(scheduler.close)))
        closing[0].result(10)
    assert steps == [["a 3"]] * 3
