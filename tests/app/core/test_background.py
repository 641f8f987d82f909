"""Background tasks: they end with their block and log their failure."""

import asyncio
import logging

import pytest

from app.core.background import background

pytestmark = pytest.mark.anyio


async def test_a_task_ends_with_the_block(caplog):
    began, ended = asyncio.Event(), asyncio.Event()

    async def work():
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background(work()):
        await began.wait()
        assert not ended.is_set()
    assert ended.is_set()
    assert not caplog.records


async def test_a_failure_is_logged_once_and_at_once(caplog):
    async def work():
        raise ZeroDivisionError

    async with background(work()):
        while not caplog.records:  # noqa: ASYNC110  # a log record has no event
            await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "work" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
