"""Owns one image's way through the service: its deadline, where it is, and where its time went.

Knows nothing of what is done to the image.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from app.errors import ClientGone

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
        stages = [f"{name};dur={seconds * 1000:.2f}" for name, seconds in self.stages.items()]
        return ", ".join([*stages, f'batch;desc="{self.batch_size}"'])


async def unless_gone(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    work: Coroutine[Any, Any, Value],
) -> Value:
    """Do the work, but give it up as soon as the caller has left.

    Args:
        receive: ASGI's, after the last byte of the body: its next message is the disconnect.
        work: what to do.

    Raises:
        ClientGone: the caller left first.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone("the caller left")
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
