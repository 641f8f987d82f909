"""A queue that serves several flows equally, and each flow by deadline.

By start-time fair queuing (Goyal, Vin and Cheng, 1996), the flow that has used the least time is
next. A flow that was empty starts with the time of the flow that was served last, so an idle flow
saves nothing for later.
"""

from bisect import insort
from collections.abc import Collection, Hashable, Iterator
from math import frexp
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

CHEAP = -5  # binary exponent: up to 31 ms

by_deadline = attrgetter("deadline")


class Scheduled(Protocol):
    """What the queue needs of an item: its flow, and its deadline in seconds."""

    flow: Hashable
    deadline: float


Item = TypeVar("Item", bound=Scheduled)


def flow_of(client: Hashable, extra_s: float) -> Hashable:
    """The flow of an image: its client, and its cost in seconds as a power of two.

    So expensive images of a client do not delay its cheap ones. All costs below 31 ms are one flow.
    """
    return client, max(CHEAP, frexp(extra_s)[1]) if extra_s else CHEAP


class Flow(Generic[Item]):
    """The waiting items of one flow.

    Attributes:
        items: by deadline.
        used: seconds that the flow has used, on the clock of the queue.
    """

    def __init__(self, used: float) -> None:
        self.items: list[Item] = []
        self.used = used


class FairQueue(Generic[Item]):
    """Waiting items of several flows."""

    def __init__(self) -> None:
        self._flows: dict[Hashable, Flow[Item]] = {}
        self._length = 0
        self._clock = 0.0  # `used` of the flow that was served last

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        """All items, flow by flow."""
        return (item for flow in self._flows.values() for item in flow.items)

    def __contains__(self, item: Item) -> bool:
        return item.flow in self._flows and item in self._flows[item.flow].items

    @property
    def flows(self) -> Collection[Flow[Item]]:
        """All flows; some may be empty."""
        return self._flows.values()

    def add(self, item: Item) -> None:
        """Add an item to its flow."""
        if not self._length:
            self._flows.clear()
            self._clock = 0.0
        if item.flow not in self._flows:
            self._forget_idle()
            self._flows[item.flow] = Flow(self._clock)
        flow = self._flows[item.flow]
        if not flow.items:
            flow.used = max(flow.used, self._clock)
        insort(flow.items, item, key=by_deadline)
        self._length += 1

    def remove(self, item: Item) -> None:
        """Remove an item that was added."""
        self._flows[item.flow].items.remove(item)
        self._length -= 1

    def next(self, skipped: Collection[Flow[Item]] = ()) -> Flow[Item] | None:
        """The flow with items that is next, except for some; None if there is none."""
        flows = [flow for flow in self._flows.values() if flow.items and flow not in skipped]
        if len(flows) < 2:
            return flows[0] if flows else None
        return min(flows, key=lambda flow: (flow.used, flow.items[0].deadline))

    def charge(self, item: Item, seconds: float) -> None:
        """Add the seconds of an item that is served now to the time that its flow has used."""
        flow = self._flows[item.flow]
        self._clock = max(self._clock, flow.used)
        flow.used += seconds

    def _forget_idle(self) -> None:
        """Remove empty flows that have no more time used than a new one."""
        idle = [key for key, flow in self._flows.items() if not flow.items]
        for key in idle:
            if self._flows[key].used <= self._clock:
                del self._flows[key]
