"""Owns those who wait: an item in the queue, the future of its caller, and how that is settled.

Knows nothing of the order in which they are served.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.batching.admission import Ticket
from app.core.errors import Internal, ServiceError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class Waiting(Generic[Item, Result]):
    """One item in the queue and the future that its caller awaits."""

    item: Item
    key: Hashable
    since: float
    answer: asyncio.Future[Result]
    ticket: Ticket

    @property
    def deadline(self) -> float:
        """On the clock of the loop, in seconds."""
        return self.ticket.deadline


def settle(answers: list[asyncio.Future[Result]], future: asyncio.Future[Any]) -> None:
    """Give everyone their own result; to all the same error when there is not one for each."""
    if future.cancelled():
        return  # the queue was closed, and has told them
    try:
        pairs = list(zip(answers, future.result(), strict=True))
    except Exception as error:  # noqa: BLE001  # it belongs to the callers, not to the queue
        pairs = [(answer, error) for answer in answers]
    for answer, result in pairs:
        if not isinstance(result, BaseException):
            if not answer.done():
                answer.set_result(result)
        else:
            fail(answer, result if isinstance(result, ServiceError) else _internal(result))


def fail(answer: asyncio.Future[Result], error: Exception) -> None:
    """Settle with an error whoever is not settled yet."""
    if not answer.done():
        answer.set_exception(error)


def _internal(cause: BaseException) -> Internal:
    error = Internal("the image could not be computed")
    error.__cause__ = cause
    return error
