"""Background tasks: a task ends with its `async with` block, and logs its failure."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

logger = logging.getLogger(__name__)


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine as a task during the block; cancel it at the end."""
    task = asyncio.create_task(work)
    task.add_done_callback(log_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def log_failure(task: asyncio.Task[None]) -> None:
    """Log an exception when it happens; otherwise it would only appear at shutdown."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.error("%s has failed", task.get_coro(), exc_info=error)
