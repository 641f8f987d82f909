"""Owns tasks that run beside the requests: each ends with its block, and none fails in silence.

Knows nothing of what they do.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

logger = logging.getLogger(__name__)


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let it run for as long as the block does."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _tell(task: asyncio.Task[None]) -> None:
    """Log why a task has failed: whoever holds it would hear of that at the very end only."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        logger.error("%s has failed", task.get_coro(), exc_info=error)
