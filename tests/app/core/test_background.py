"""Tasks beside the requests: they end with their block, and none fails in silence."""

import asyncio
import logging

import pytest

from app.core.background import background

pytestmark = pytest.mark.anyio


async def test_it_runs_for_as_long_as_the_block(caplog):
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


async def test_one_that_fails_is_told_once_and_at_once(caplog):
    async def work():
        raise ZeroDivisionError

    async with background(work()):
        while not caplog.records:  # noqa: ASYNC110  # a record is no event
            await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "work" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError
