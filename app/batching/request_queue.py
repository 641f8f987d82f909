"""The queue of one model: admitted images in deadline order, until a batch takes them."""

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Hashable, Iterator, Sequence
from enum import Enum, auto
from math import inf
from operator import attrgetter
from types import TracebackType
from typing import Generic, Self, TypeVar

from app.core.errors import DeadlineExceeded

Item = TypeVar("Item")
Result = TypeVar("Result")

by_deadline = attrgetter("deadline")


class State(Enum):
    """State of an entry."""

    DECODING = auto()  # admitted, without an item yet
    WAITING = auto()  # ready to join a batch
    RUNNING = auto()  # in a batch
    DONE = auto()  # finished, expired, or its client disconnected


class Entry(Generic[Item, Result]):
    """One admitted image. Leaving its `with` block removes it from the queue.

    Args:
        queue: the queue that it is pushed to.
        deadline: on the clock of the event loop, in seconds.
        on_exit: called at the end of the `with` block with the entry and the block's exception.

    Attributes:
        state: `item`, `key`, `since` and `future` are set when it becomes WAITING.
        item: input of the batch.
        key: entries of one batch have equal keys.
        since: start of the wait for a batch, on the clock of the event loop, in seconds.
        future: the result.
        started: when a lane started the batch, on the monotonic clock, in seconds; 0 before that.
        batch_size: number of entries in the batch; 0 before it has run.
    """

    item: Item
    key: Hashable
    since: float
    future: asyncio.Future[Result]

    def __init__(
        self,
        queue: "RequestQueue[Item, Result]",
        deadline: float,
        on_exit: "Callable[[Entry[Item, Result], BaseException | None], None] | None" = None,
    ) -> None:
        self.deadline = deadline
        self.state = State.DECODING
        self.started = 0.0
        self.batch_size = 0
        self._queue = queue
        self._on_exit = on_exit

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._on_exit is not None:
            self._on_exit(self, error)
        self._queue.remove(self)

    def fail(self, error: Exception) -> None:
        """Set an error as the result, unless the future is already done."""
        if not self.future.done():
            self.future.set_exception(error)


class RequestQueue(Generic[Item, Result]):
    """Entries in DECODING or WAITING, by deadline; its length is the number of places taken.

    An entry whose future is done (its client disconnected) stays until its `with` block ends or
    batching reaches it.

    Attributes:
        waiting: number of entries in WAITING.
        running: number of entries in RUNNING.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.running = 0
        self._entries: list[Entry[Item, Result]] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def urgency(self) -> float:
        """The nearest deadline of the waiting entries; infinite if there are none."""
        first = self._first()
        return inf if first is None else first.deadline

    def waiting_entries(self) -> Iterator[Entry[Item, Result]]:
        """The waiting entries, most urgent first."""
        return (entry for entry in self._entries if entry.state is State.WAITING)

    def oldest_age(self) -> float:
        """Seconds since the first of the waiting entries became ready; 0 if there are none."""
        now = asyncio.get_running_loop().time()
        return max((now - entry.since for entry in self.waiting_entries()), default=0.0)

    def place(self, deadline: float) -> int:
        """Number of entries before a new one with this deadline."""
        return bisect_right(self._entries, deadline, key=by_deadline)

    def after(self, place: int) -> Sequence[Entry[Item, Result]]:
        """The entries from a place on."""
        return self._entries[place:]

    def push(self, entry: Entry[Item, Result]) -> None:
        """Add a new entry behind all with the same deadline."""
        insort(self._entries, entry, key=by_deadline)

    def set_ready(self, entry: Entry[Item, Result], item: Item, key: Hashable) -> None:
        """Let batches take an entry: its item is decoded."""
        loop = asyncio.get_running_loop()
        entry.item, entry.key, entry.since = item, key, loop.time()
        entry.future = loop.create_future()
        entry.state = State.WAITING
        self.waiting += 1

    def remove(self, entry: Entry[Item, Result]) -> None:
        """Set an entry to DONE in whatever state it is."""
        if entry.state is State.RUNNING:
            self.running -= 1
        elif entry.state is not State.DONE:
            self.waiting -= entry.state is State.WAITING
            start = bisect_left(self._entries, entry.deadline, key=by_deadline)
            del self._entries[self._entries.index(entry, start)]
        entry.state = State.DONE

    def peek(self, now: float) -> Entry[Item, Result] | None:
        """The most urgent waiting entry, after removing cancelled and expired ones before it.

        Args:
            now: on the clock of the event loop, in seconds.
        """
        while (first := self._first()) is not None:
            if not first.future.done():
                if first.deadline > now:
                    return first
                first.fail(DeadlineExceeded("the deadline passed in the queue"))
            self.remove(first)
        return None

    def expire_unservable(self, batch_size: int, batch_s: float) -> None:
        """Fail the entries whose deadline is before the end of a batch, while others fill it.

        Serving them in ever smaller batches would slow the queue down until every entry is late.

        Args:
            batch_size: entries in the batch; as many stay in the queue in any case.
            batch_s: duration of the batch, in seconds.
        """
        end = asyncio.get_running_loop().time() + batch_s
        while self.waiting > batch_size:
            first = self._first()
            if first is None or first.deadline >= end:
                return
            first.fail(DeadlineExceeded("not enough time was left to run the image"))
            self.remove(first)

    def fill(self, add: Callable[[Entry[Item, Result]], bool], key: Hashable, count: int) -> None:
        """Move the most urgent waiting entries with an equal key into a batch.

        Args:
            add: adds an entry to the batch; False if the batch is closed.
            key: of the batch.
            count: the most entries to move.
        """
        kept: list[Entry[Item, Result]] = []  # of the entries before `place`
        place, unseen = 0, self.waiting
        for entry in self._entries:
            if not unseen:
                break
            place += 1
            if entry.state is State.DECODING:
                kept.append(entry)
                continue
            unseen -= 1
            if entry.future.done():
                entry.state = State.DONE
                self.waiting -= 1
            elif entry.key != key:
                kept.append(entry)
            elif count > 0 and add(entry):
                entry.state = State.RUNNING
                self.waiting -= 1
                self.running += 1
                count -= 1
            else:
                kept.append(entry)
                break
        self._entries[:place] = kept

    def _first(self) -> Entry[Item, Result] | None:
        if self.waiting:
            for entry in self._entries:
                if entry.state is State.WAITING:
                    return entry
        return None
