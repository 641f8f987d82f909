"""A queue that serves clients equally, and the flows of each client equally.

By start-time fair queuing (Goyal, Vin and Cheng, 1996), the client that has used the least time is
next, and of its flows the one that has used the least. A client or flow that was empty starts with
the time of the one that was served last, so it saves nothing for later while it is idle.
"""

from bisect import insort
from collections.abc import Collection, Hashable, Iterator
from math import frexp
from operator import attrgetter
from typing import Generic, NamedTuple, Protocol, TypeVar

CHEAP = -5  # binary exponent: up to 31 ms

by_deadline = attrgetter("deadline")


class FlowKey(NamedTuple):
    """The flow of an image: its client, and its cost in seconds as a power of two.

    So expensive images of a client do not delay its cheap ones. All costs below 31 ms are one flow.
    """

    client: Hashable
    exponent: int = CHEAP


def flow_of(client: Hashable, extra_s: float) -> FlowKey:
    """The flow of an image with this cost, in seconds."""
    return FlowKey(client, max(CHEAP, frexp(extra_s)[1]) if extra_s else CHEAP)


class Scheduled(Protocol):
    """What the queue needs of an item: its flow, and its deadline in seconds."""

    flow: FlowKey
    deadline: float


Item = TypeVar("Item", bound=Scheduled)


class Share:
    """The time that one client has used, on the clock of the queue.

    Attributes:
        used: seconds.
        clock: `used` of the client's flow that was served last.
        count: its items.
    """

    def __init__(self) -> None:
        self.used = self.clock = 0.0
        self.count = 0


class Flow(Generic[Item]):
    """The waiting items of one flow.

    Attributes:
        share: of its client.
        items: by deadline.
        used: seconds that the flow has used, on the clock of the client.
    """

    def __init__(self, share: Share) -> None:
        self.share = share
        self.items: list[Item] = []
        self.used = 0.0

    @property
    def turn(self) -> tuple[float, float, float]:
        """The flow with the smallest value is next."""
        return self.share.used, self.used - self.share.clock, self.items[0].deadline


class FairQueue(Generic[Item]):
    """Waiting items of several clients, in flows."""

    def __init__(self) -> None:
        self._shares: dict[Hashable, Share] = {}  # by client
        self._flows: dict[FlowKey, Flow[Item]] = {}
        self._length = 0
        self._clock = 0.0  # `used` of the client that was served last

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
            self._shares.clear()
            self._clock = 0.0
        flow = self._flows.get(item.flow) or self._new_flow(item.flow)
        if not flow.share.count:
            flow.share.used = max(flow.share.used, self._clock)
        if not flow.items:
            flow.used = max(flow.used, flow.share.clock)
        insort(flow.items, item, key=by_deadline)
        flow.share.count += 1
        self._length += 1

    def remove(self, item: Item) -> None:
        """Remove an item that was added."""
        flow = self._flows[item.flow]
        flow.items.remove(item)
        flow.share.count -= 1
        self._length -= 1

    def next(self, skipped: Collection[Flow[Item]] = ()) -> Flow[Item] | None:
        """The flow with items that is next, except for some; None if there is none."""
        flows = [flow for flow in self._flows.values() if flow.items and flow not in skipped]
        if len(flows) < 2:
            return flows[0] if flows else None
        return min(flows, key=attrgetter("turn"))

    def charge(self, item: Item, seconds: float) -> None:
        """Add the seconds of an item that is served now to the time used by its flow and client."""
        flow = self._flows[item.flow]
        share = flow.share
        self._clock, share.clock = max(self._clock, share.used), max(share.clock, flow.used)
        share.used += seconds
        flow.used += seconds

    def _new_flow(self, key: FlowKey) -> Flow[Item]:
        self._forget_idle()
        share = self._shares.setdefault(key.client, Share())
        flow = self._flows[key] = Flow(share)
        return flow

    def _forget_idle(self) -> None:
        """Remove empty flows and clients that have no more time used than new ones."""
        shares = self._shares.items()
        gone = {key for key, share in shares if not share.count and share.used <= self._clock}
        for key, flow in list(self._flows.items()):
            if key.client in gone or (not flow.items and flow.used <= flow.share.clock):
                del self._flows[key]
        for client in gone:
            del self._shares[client]
