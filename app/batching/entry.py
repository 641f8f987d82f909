"""One admitted image of a request, from its admission to its result."""

import asyncio
from collections.abc import Hashable
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from app.batching.fair_queue import flow_of

Item = TypeVar("Item")
Result = TypeVar("Result")

State = Literal["decoding", "waiting", "running", "done"]


class HoldsEntries(Protocol):
    """What an entry needs of its queue."""

    def remove(self, entry: Any) -> None:
        """Remove the entry, in whatever state it is."""
        ...


class Entry(Generic[Item, Result]):
    """One admitted image. Leaving its `with` block removes it from the queue.

    Args:
        queue: the queue that it is pushed to.
        deadline: on the clock of the event loop, in seconds.
        client: entries of one client share its part of the device; None if it is unknown.
        extra_s: expected seconds of the work on this image besides the lane's run, or on a narrow
            lane besides the network.
        items: expected work of the run, in images that need only the network.

    Attributes:
        flow: the entry's flow.
        state: `decoding` until the item is there, `waiting` until a batch takes it, `running` in a
            batch, `done` when it has finished or expired or its client has disconnected.
        item: input of the batch; like `key` and `since`, not set while decoding.
        key: entries of one batch have equal keys.
        since: start of the wait for a batch, on the clock of the event loop, in seconds.
        future: the result, or an error, which an entry may get while it is decoded.
        admitted: time of its admission, on the clock of the event loop, in seconds.
        predicted_s: predicted time from then to the result, in seconds.
        started: when a lane started the batch, on the monotonic clock, in seconds; 0 before that.
        batch_size: number of entries in the batch; 0 before it has run.
    """

    item: Item
    key: Hashable
    since: float

    def __init__(
        self,
        queue: HoldsEntries,
        deadline: float,
        client: Hashable = None,
        extra_s: float = 0.0,
        items: float = 1.0,
    ) -> None:
        self.deadline = deadline
        self.client = client
        self.extra_s = extra_s
        self.items = items
        self.flow = flow_of(client, extra_s)
        self.state: State = "decoding"
        self.admitted = self.predicted_s = self.started = 0.0
        self.batch_size = 0
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue = queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.remove(self)

    def fail(self, error: Exception) -> None:
        """Set an error as the result, unless the future is already done."""
        if not self.future.done():
            self.future.set_exception(error)
