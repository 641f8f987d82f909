"""Owns how the batches of one model are run on lanes, and what is done when one fails.

Knows nothing of queues or HTTP. Where cores are the device, a lane does all the work on an image;
elsewhere it only computes, and begins with a batch while another is computed.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from app.batching.isolation import OnSplit
from app.batching.job import Job, Outcome, compute, fulfil
from app.batching.scheduler import Device
from app.core.errors import NotReady
from app.engine.interface import Batch, DeviceLost, EngineSeam
from app.engine.lanes import Lane

Value = TypeVar("Value")
Take = Callable[[], Sequence[Job]]
Tell = Callable[..., object]  # lets the loop call a function


class Runner:
    """Runs batches of jobs.

    Args:
        engine: computes them.
        device: whose lanes they run on.
        on_split: called on the loop with the cause and the size of each batch that is cut.
        on_lost: called on the loop, once, when the device computes nothing any more.
    """

    def __init__(
        self,
        engine: EngineSeam,
        device: Device[Lane],
        on_split: OnSplit,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self._engine = engine
        self._device = device
        self._on_split = on_split
        self._on_lost = on_lost

    def send(self, lane: Lane, take: Take, *, whole: bool) -> asyncio.Future[list[Outcome]]:
        """Send a batch to a lane, which takes its jobs when it begins; what became of each.

        Args:
            lane: runs it.
            take: gives the jobs.
            whole: whether the lane also decodes and encodes.
        """
        tell = asyncio.get_running_loop().call_soon_threadsafe
        if whole:
            return lane.run(partial(self._unless_lost, tell, partial(self._fulfil, tell, take)))
        return lane.launch(partial(self._begin, tell, take))

    def _fulfil(self, tell: Tell, take: Take) -> list[Outcome]:
        on_split = partial(tell, self._on_split)
        return fulfil(take(), self._engine.run, on_split)

    def _begin(self, tell: Tell, take: Take) -> Callable[[], list[Outcome]]:
        jobs = take()
        if not jobs:  # all of them left while the lane was at work
            return list
        try:
            begun = self._engine.launch([job.compute_input() for job in jobs])
        except BaseException as error:  # noqa: BLE001  # told as if it came to light at the end
            begun = partial(_failed, error)
        on_split = partial(tell, self._on_split)
        return partial(
            self._unless_lost, tell, partial(compute, jobs, self._engine.run, on_split, begun)
        )

    def _unless_lost(self, tell: Tell, work: Callable[[], Value]) -> Value:
        try:
            return work()
        except DeviceLost as error:
            tell(self._lose, error)
            raise lost() from error

    def _lose(self, error: DeviceLost) -> None:
        if self._device.lost is None:
            self._device.lost = str(error)
            self._on_lost(error)


def lost() -> NotReady:
    """What callers are told when the device has failed."""
    return NotReady("the device has failed; the service starts anew", retry_after_s=5.0)


def _failed(error: BaseException) -> Batch:
    raise error
