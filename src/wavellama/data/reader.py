"""The reader: the batches of an epoch are dealt out to processes, decoded, tokenised, collated."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from typing import Final, cast

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.datasets import DataReader, Seq2SeqBatch, SyncMode
from fairseq2.gang import Gang, Gangs
from torch import Tensor
from typing_extensions import Self, override

from wavellama.audio.load import change_speed, normalize
from wavellama.batch import Example
from wavellama.data.collate import Row, collate, join_words
from wavellama.data.failures import Failures
from wavellama.data.mixing import Mixture
from wavellama.data.order import EpochOrder, PlannedBatch, Position, share_rows
from wavellama.data.plan import Plan, Planner, ReaderOptions
from wavellama.data.plot import plot_shares
from wavellama.data.utterance import Utterance
from wavellama.errors import AudioError, DataError
from wavellama.text.words import join_texts

NUM_AHEAD: Final = 2
"""Batches that are read before they are asked for."""

_log = logging.getLogger(__name__)


class BatchLoader:
    """Reads the audio of planned rows and collates them; bad audio is left out and noted."""

    def __init__(
        self,
        read_audio: Callable[[Utterance], Tensor],
        utterances: Sequence[Utterance],
        tokenizer: Tokenizer,
        options: ReaderOptions,
    ) -> None:
        self._read_audio, self._utterances = read_audio, utterances
        self._encode = tokenizer.create_encoder()
        self._pad_idx = tokenizer.vocab_info.pad_idx or 0
        self._lang_column, self._num_examples = options.language_column, options.num_examples
        self._skip_bad_texts = options.skip_bad_texts
        self._failures = Failures(options.failures_path, len(utterances), options.max_bad_share)

    def load(self, plans: Sequence[Plan]) -> Seq2SeqBatch | None:
        """Return the batch of the planned rows, or None if none of them can be read."""
        rows = [row for plan in plans if (row := self._read_row(plan)) is not None]
        return collate(rows, self._pad_idx, self._lang_column) if rows else None

    def _read_row(self, plan: Plan) -> Row | None:
        utterances: list[Utterance] = []
        waveforms: list[Tensor] = []
        for index in plan.indices:
            waveform = self._read(self._utterances[index])
            if waveform is not None:
                utterances.append(self._utterances[index])
                waveforms.append(waveform)
        if not utterances:
            return None
        joined = torch.cat(waveforms)
        if plan.speed != 1.0:
            joined = change_speed(joined, plan.speed)
        text = join_texts(utterance.text for utterance in utterances)
        words = join_words(utterances, plan.speed)
        context = self._read_context(plan.examples)
        return Row(utterances[0], normalize(joined), text, self._tokens(text), words, context)

    def _read_context(self, candidates: Sequence[int]) -> list[Example]:
        """Return the examples of a row: the first candidates that can be read, again if too few.

        :raises DataError: none of them can be read.
        """
        if not candidates:
            return []
        examples: list[Example] = []
        for index in candidates:
            waveform = self._read(self._utterances[index])
            if waveform is not None:
                tokens = self._tokens(self._utterances[index].text)
                examples.append(Example(normalize(waveform), tokens.tolist()))
            if len(examples) == self._num_examples:
                break
        if not examples:
            raise DataError("None of the context examples that were drawn can be read.")
        return list(islice(cycle(examples), self._num_examples))

    def _read(self, utterance: Utterance) -> Tensor | None:
        """Return the audio of an utterance; None, after it was noted, if it cannot be used."""
        fault = utterance.text_fault if self._skip_bad_texts else None
        if fault is None:
            try:
                return self._read_audio(utterance)
            except AudioError as ex:
                fault = ex.reason
        self._failures.add(utterance, fault)
        return None

    def _tokens(self, text: str) -> Tensor:
        # fairseq2's batch needs a target; audio without a transcript gets one padding token.
        return self._encode(text) if text else torch.tensor([self._pad_idx])


class Upcoming:
    """A batch of the epoch that no process has been given yet."""

    def __init__(self, position: Position, plans: PlannedBatch) -> None:
        """``position``: the one behind the batch."""
        self.position, self.plans = position, plans
        self.loading: Future[Seq2SeqBatch | None] | None = None
        """What reads its audio; None: that has not begun."""


class EpochReader(DataReader[Seq2SeqBatch]):
    """Deals the batches of an epoch out to the processes, and reads those of this one.

    Each round gives a batch to each process. All processes count along, so that one position tells
    what all of them have read. Who got a batch none of whose audio can be read gets another one.
    """

    def __init__(
        self,
        open_epoch: Callable[[int, int], EpochOrder],
        loader: BatchLoader,
        gang: Gang,
        options: ReaderOptions,
    ) -> None:
        """
        :param open_epoch: gives the order of an epoch for a seed and the epoch's number.
        :param gang: the processes that share the batches.
        """
        self._open_epoch, self._loader, self._gang = open_epoch, loader, gang
        self._options, self._seed, self._epoch = options, options.seed, 0
        self._thread = ThreadPoolExecutor(1, "reader")
        self._go_to(Position())

    def _go_to(self, position: Position) -> None:
        self._order = self._open_epoch(self._seed, self._epoch)
        self._position = position
        self._planned = (Upcoming(*item) for item in self._order.iter_from(position))
        self._upcoming: deque[Upcoming] = deque()
        self._has_read = position != Position()

    @override
    def __iter__(self) -> Self:
        return self

    @override
    def __next__(self) -> list[Seq2SeqBatch]:
        """Return the next batches.

        :raises DataError: the epoch ends, and no process has read a single batch.
        """
        batches: list[Seq2SeqBatch] = []
        for num_rounds in range(self.num_accumulate):
            batch, num_processes = self._read_round()
            self._has_read |= num_processes > 0
            if num_processes < (self._gang.size if self._reads_in_step else 1):
                if num_rounds > 0:
                    break
                if not self._has_read:
                    raise DataError(
                        "There is nothing to read: none of the split's audio can be used."
                    )
                raise StopIteration
            batches += [batch] if batch is not None else []
        return batches

    def _read_round(self) -> tuple[Seq2SeqBatch | None, int]:
        """Return a batch for this process, and how many processes have one."""
        batch: Seq2SeqBatch | None = None
        held: dict[int, Upcoming] = {}
        """What each process has a batch of, by its rank."""
        while len(held) < self._gang.size:
            lacking = [rank for rank in range(self._gang.size) if rank not in held]
            dealt = self._deal(len(lacking))
            if not dealt:
                dealt, lacking = self._share(list(held.values())), list(range(self._gang.size))
            if not dealt:
                break
            new = dict(zip(lacking, dealt, strict=False))
            if self._gang.rank in new:
                batch = self._load(new[self._gang.rank])
            held |= new
            for rank in self._find_lacking(batch is None):
                held.pop(rank, None)
        return batch, len(held)

    def _deal(self, num_batches: int) -> list[Upcoming]:
        """Return the next batches, so many or what is left of the epoch."""
        self._plan_ahead(num_batches)
        dealt = [self._upcoming.popleft() for _ in range(min(num_batches, len(self._upcoming)))]
        if dealt:
            self._position = dealt[-1].position
        return dealt

    def _share(self, held: Sequence[Upcoming]) -> list[Upcoming]:
        """Return a batch for each process that hold the rows of fewer; none if that cannot be."""
        size, shares = self._gang.size, [upcoming.plans for upcoming in held]
        if not self._reads_in_step or sum(map(len, shares)) < size:
            return []
        return [Upcoming(self._position, plans) for plans in share_rows(shares, size)]

    @property
    def _reads_in_step(self) -> bool:
        """Whether all processes have to read equally many batches (training)."""
        return self._options.sync_mode is SyncMode.UNTIL_FIRST

    def _load(self, upcoming: Upcoming) -> Seq2SeqBatch | None:
        """Return a batch, and let those that will probably follow be read meanwhile."""
        loading = self._start(upcoming)
        size, rank = self._gang.size, self._gang.rank
        self._plan_ahead(size * NUM_AHEAD)
        for following in islice(self._upcoming, rank, size * NUM_AHEAD, size):
            self._start(following)
        return loading.result()

    def _start(self, upcoming: Upcoming) -> Future[Seq2SeqBatch | None]:
        if upcoming.loading is None:
            upcoming.loading = self._thread.submit(self._loader.load, upcoming.plans)
        return upcoming.loading

    def _plan_ahead(self, num_batches: int) -> None:
        self._upcoming += islice(self._planned, max(0, num_batches - len(self._upcoming)))

    def _find_lacking(self, is_lacking: bool) -> list[int]:
        """Return the ranks of the processes without a batch."""
        if self._gang.size == 1:
            return [0] if is_lacking else []  # without waiting for a GPU
        own = torch.tensor([int(is_lacking)], device=self._gang.device)
        flags = [torch.empty_like(own) for _ in range(self._gang.size)]
        self._gang.all_gather_to_list(flags, own)
        return [rank for rank, flag in enumerate(flags) if int(flag)]

    @override
    def reset(self) -> None:
        """Go to the next epoch; without shuffling all epochs are equal."""
        self._epoch += int(self._options.shuffle)
        self._go_to(Position())

    @override
    def state_dict(self) -> dict[str, object]:
        """Return what any number of processes can go on from; all of them save the same."""
        return {
            "seed": self._seed,
            "epoch": self._epoch,
            "position": tuple(self._position),
            "signature": self._order.signature,
        }

    @override
    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Go on where a checkpoint was written; at the start of its epoch if batches differ now."""
        self._seed = cast("int", state_dict.get("seed", self._seed))
        self._epoch = cast("int", state_dict["epoch"])
        self._go_to(Position())
        if state_dict.get("signature") == self._order.signature:
            self._go_to(Position(*cast("tuple[int, int]", state_dict["position"])))
        else:
            _log.warning(
                "The data set, or how it is cut into batches, has changed since the checkpoint was"
                " written: epoch %d begins again.",
                self._epoch + 1,
            )

    @property
    @override
    def num_accumulate(self) -> int:
        return self._options.num_accumulate


def create_batch_reader(
    read_audio: Callable[[Utterance], Tensor],
    utterances: Sequence[Utterance],
    tokenizer: Tokenizer,
    gangs: Gangs,
    options: ReaderOptions,
) -> EpochReader:
    """Return a reader of batches; its state resumes exactly where it was saved."""
    planner = Planner(utterances, options)
    loader = BatchLoader(read_audio, utterances, tokenizer, options)
    mixture = Mixture(utterances, options.betas) if options.betas is not None else None
    if mixture is not None and options.shares_path is not None and gangs.root.rank == 0:
        plot_shares(mixture, options.shares_path)
    open_epoch = partial(EpochOrder, planner, options, mixture)
    return EpochReader(open_epoch, loader, gangs.dp, options)
