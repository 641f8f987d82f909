"""Owns one image's way through the service: its deadline, where it is, and where its time went.

Knows nothing of what is done to the image.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from app.core.errors import ClientGone
from app.core.scope import Caller

Value = TypeVar("Value")


@dataclass
class Trip:
    """One image on its way.

    Attributes:
        deadline: when the answer must be there, on the clock of the loop, in seconds.
        stages: the seconds spent in each stage so far.
        place: where the image is: `decode`, `queue`, `compute` or `encode`.
        batch_size: how many images shared its batch; 0 before it.
    """

    deadline: float
    stages: dict[str, float] = field(default_factory=dict)
    place: str = "decode"
    batch_size: int = 0

    def server_timing(self) -> str:
        """The stages as a Server-Timing header, in milliseconds."""
        stages = "".join([f"{name};dur={1e3 * took:.2f}, " for name, took in self.stages.items()])
        return f'{stages}batch;desc="{self.batch_size}"'

    def account(self) -> dict[str, Any]:
        """The same for a line of the log."""
        stages = {name: round(seconds * 1000, 2) for name, seconds in self.stages.items()}
        return {"batch_size": self.batch_size, "stages_ms": stages}


async def while_wanted(deadline: float, caller: Caller, work: Coroutine[Any, Any, Value]) -> Value:
    """Do the work, but give it up at its deadline, or as soon as the caller has left.

    It is done in the task that asks for it, which is cancelled if need be: a task of its own would
    cost more than what there is to do around an image.

    Args:
        deadline: on the clock of the loop, in seconds.
        caller: who waits for it.
        work: what to do.

    Raises:
        ClientGone: the caller left first.
        TimeoutError: the deadline came first.
    """
    if caller.gone:
        work.close()
        raise ClientGone("the caller left")
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in one
    cancelled_before = task.cancelling()
    reason: type[Exception] | None = None

    def give_up(why: type[Exception]) -> None:
        nonlocal reason
        if reason is None and task.cancel():
            reason = why

    timer = asyncio.get_running_loop().call_at(deadline, give_up, TimeoutError)
    caller.watch(partial(give_up, ClientGone))
    try:
        return await work
    except asyncio.CancelledError:
        if reason is not None and task.uncancel() <= cancelled_before:
            raise reason("nobody waits for the answer any more") from None
        raise
    finally:
        timer.cancel()
        caller.unwatch()
