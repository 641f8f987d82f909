"""The queue of one model: admitted images, until a batch takes them.

Each client has a flow of its own for images of similar cost, and the flows share the device.
"""

import asyncio
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from math import inf
from typing import Generic, TypeVar

from app.batching.entry import Entry
from app.batching.fair_queue import FairQueue, Flow, FlowKey, by_deadline
from app.core.errors import DeadlineExceeded

Item = TypeVar("Item")
Result = TypeVar("Result")

COMPETITION_S = 1.0  # clients whose requests are further apart do not compete


class Backlog(Generic[Item, Result]):
    """The admitted entries of one flow, in `decoding` or `waiting`.

    Attributes:
        entries: by deadline.
        extra_s: sum of their `extra_s`.
        items: sum of their `items`.
    """

    def __init__(self) -> None:
        self.entries: list[Entry[Item, Result]] = []
        self.extra_s = self.items = 0.0


class RequestQueue(Generic[Item, Result]):
    """The admitted images of one model; its length is the number of places taken.

    A waiting entry with a future that is done (its client disconnected) stays until its `with`
    block ends or batching reaches it.

    Attributes:
        item_s: expected seconds of the network for one image.
        waiting: the entries in `waiting`; to be read only.
        running: number of entries in `running`.
        running_extra_s: the sum of their `extra_s`.
        running_items: the sum of their `items`.
        backlogs: the admitted entries by flow; to be read only.
    """

    def __init__(self) -> None:
        self.item_s = 0.0
        self.waiting: FairQueue[Entry[Item, Result]] = FairQueue()
        self.running = 0
        self.running_extra_s = self.running_items = 0.0
        self._length = 0
        self._places: Counter[Hashable] = Counter()  # by client
        self.backlogs: dict[FlowKey, Backlog[Item, Result]] = {}
        self._last_client: Hashable = None
        self._last_push = self._contested_until = -inf

    def __len__(self) -> int:
        return self._length

    @property
    def contested(self) -> bool:
        """Whether one client has over three quarters of the places, and another one just came."""
        if asyncio.get_running_loop().time() >= self._contested_until:
            return False
        return 4 * max(self._places.values(), default=0) > 3 * self._length

    @property
    def urgency(self) -> float:
        """The nearest deadline of the waiting entries; infinite if there are none."""
        heads = (flow.items[0].deadline for flow in self.waiting.flows if flow.items)
        return min(heads, default=inf)

    def oldest_age(self) -> float:
        """Seconds since the first of the waiting entries became ready; 0 if there are none."""
        now = asyncio.get_running_loop().time()
        return max((now - entry.since for entry in self.waiting), default=0.0)

    def after(self, flow: FlowKey, deadline: float) -> Sequence[Entry[Item, Result]]:
        """The admitted entries of a flow that come after a new one with this deadline."""
        if flow not in self.backlogs:
            return ()
        entries = self.backlogs[flow].entries
        return entries[bisect_right(entries, deadline, key=by_deadline) :]

    def push(self, entry: Entry[Item, Result]) -> None:
        """Add a new entry, which is in `decoding`."""
        backlog = self.backlogs.setdefault(entry.flow, Backlog())
        insort(backlog.entries, entry, key=by_deadline)
        backlog.extra_s += entry.extra_s
        backlog.items += entry.items
        self._length += 1
        self._places[entry.client] += 1
        now = asyncio.get_running_loop().time()
        if entry.client != self._last_client and now - self._last_push < COMPETITION_S:
            self._contested_until = now + COMPETITION_S
        self._last_client, self._last_push = entry.client, now

    def set_ready(self, entry: Entry[Item, Result], item: Item, key: Hashable) -> None:
        """Let batches take an entry: its item is decoded."""
        entry.item, entry.key, entry.since = item, key, asyncio.get_running_loop().time()
        entry.state = "waiting"
        self.waiting.add(entry)

    def remove(self, entry: Entry[Item, Result]) -> None:
        """Set an entry to `done`, in whatever state it is, and free its place."""
        if entry.state == "running":
            self.running -= 1
            self.running_extra_s = self.running_extra_s - entry.extra_s if self.running else 0.0
            self.running_items = self.running_items - entry.items if self.running else 0.0
        elif entry.state != "done":
            self._take(entry)
        entry.state = "done"

    def peek(self, now: float) -> Entry[Item, Result] | None:
        """The entry that is next, after removing cancelled and expired ones before it.

        Args:
            now: on the clock of the event loop, in seconds.
        """
        while (flow := self.waiting.next()) is not None:
            first = flow.items[0]
            if not first.future.done():
                if first.deadline > now:
                    return first
                first.fail(DeadlineExceeded("the deadline passed in the queue"))
            self.remove(first)
        return None

    def expire_unservable(self, batch_size: int, batch_s: float) -> None:
        """Fail the most urgent entries that a batch could not finish in time if it started now.

        They are failed only as long as other entries fill the batch.

        Smaller and smaller batches for such entries would slow the queue down until every entry is
        late.

        Args:
            batch_size: entries in the batch; at least as many entries stay in the queue.
            batch_s: duration of the batch, in seconds.
        """
        end = asyncio.get_running_loop().time() + batch_s
        for flow in self.waiting.flows:
            while len(self.waiting) > batch_size and flow.items and flow.items[0].deadline < end:
                first = flow.items[0]
                first.fail(DeadlineExceeded("not enough time was left to run the image"))
                self.remove(first)

    def fill(
        self,
        add: Callable[[Entry[Item, Result]], bool],
        key: Hashable,
        count: int,
        extra_s: float = inf,
    ) -> None:
        """Move waiting entries with an equal key into a batch, each from the flow that is next.

        Args:
            add: adds an entry to the batch; False if the batch is closed.
            key: of the batch.
            count: the most entries to move.
            extra_s: the largest sum of their `extra_s`.
        """
        skipped: list[Flow[Entry[Item, Result]]] = []
        while count > 0 and (flow := self.waiting.next(skipped)) is not None:
            entry = self._first(flow, key)
            if entry is None or entry.extra_s > extra_s:
                skipped.append(flow)
                continue
            if not add(entry):
                return
            self.waiting.charge(entry, self.item_s * entry.items + entry.extra_s)
            self._take(entry)
            entry.state = "running"
            self.running += 1
            self.running_extra_s += entry.extra_s
            self.running_items += entry.items
            count, extra_s = count - 1, extra_s - entry.extra_s

    def last_of_most(self, client: Hashable) -> Entry[Item, Result] | None:
        """The entry that gives its place to another client, or None if there is no such entry.

        It has the latest deadline of the admitted entries of the client with most places, which
        must have at least two more places than the other client.
        """
        most = max(self._places, key=self._places.__getitem__, default=client)
        if self._places[most] <= self._places[client] + 1:
            return None
        flows = (flow for key, flow in self.backlogs.items() if key.client == most)
        return max((flow.entries[-1] for flow in flows), key=by_deadline, default=None)

    def _first(self, flow: Flow[Entry[Item, Result]], key: Hashable) -> Entry[Item, Result] | None:
        """The first entry of a flow with this key, after removing cancelled ones before it."""
        for entry in list(flow.items):
            if entry.future.done():
                self.remove(entry)
            elif entry.key == key:
                return entry
        return None

    def _take(self, entry: Entry[Item, Result]) -> None:
        """Remove a decoding or waiting entry from the lists of its flow."""
        backlog = self.backlogs[entry.flow]
        backlog.entries.remove(entry)
        backlog.extra_s -= entry.extra_s
        backlog.items -= entry.items
        if not backlog.entries:
            del self.backlogs[entry.flow]
        if entry.state == "waiting":
            self.waiting.remove(entry)
        self._length -= 1
        self._places[entry.client] -= 1
        if not self._places[entry.client]:
            del self._places[entry.client]
