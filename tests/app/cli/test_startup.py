"""The message that the service is ready."""

import logging
from dataclasses import replace

import pytest

from app.cli import startup
from app.core.settings import Settings

pytestmark = pytest.mark.anyio
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def announced(serve, caplog, monkeypatch):
    """Announce an app with fake engines, on a terminal or not, and return the log record."""

    async def announce(
        *, terminal: bool, first: bool = True, assumptions=(), **settings
    ) -> logging.LogRecord:
        def prepare(engine):
            info = replace(engine.load(), assumptions=assumptions)
            engine.load = lambda: info

        monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
        async with serve(prepare) as running:
            with caplog.at_level(logging.INFO, logger=startup.__name__):
                deployments = running.state["deployments"].values()
                startup.announce_ready(Settings(**settings), ADDRESS, deployments, first=first)
        return caplog.records[-1]

    return announce


async def test_a_terminal_gets_a_block_with_models_and_addresses(announced):
    lines = (await announced(terminal=True)).getMessage().splitlines()
    assert lines[0].startswith("patchserve 0.1.0 is ready in ")
    assert lines[0].endswith(" s")
    assert lines[1].startswith("    classify  shapes-vit: 4 labels, float32 on cpu by ")
    assert lines[2].startswith("    segment   shapes-segformer: 4 labels")
    assert lines[3:] == [f"    page      {ADDRESS}/", f"    docs      {ADDRESS}/docs"]


async def test_the_block_and_the_fields_have_what_was_assumed(announced):
    assumed = ("the labels are numbered",)
    lines = (await announced(terminal=True, assumptions=assumed)).getMessage().splitlines()
    assert lines[3:5] == [
        "    note      shapes-vit: the labels are numbered",
        "    note      shapes-segformer: the labels are numbered",
    ]
    record = await announced(terminal=False, assumptions=assumed)
    assert [model["assumptions"] for model in record.models] == [["the labels are numbered"]] * 2


async def test_on_a_terminal_only_the_first_replica_logs_the_block(announced):
    message = (await announced(terminal=True, first=False)).getMessage()
    assert message.startswith("ready in ")
    assert "\n" not in message


async def test_elsewhere_the_same_is_in_fields(announced):
    record = await announced(terminal=False)
    assert record.getMessage().startswith("ready in ")
    assert (record.page, record.docs) == (f"{ADDRESS}/", f"{ADDRESS}/docs")
    assert [model["name"] for model in record.models] == ["shapes-vit", "shapes-segformer"]
    assert record.models[0]["max_batch_size"] >= 1


async def test_the_addresses_have_the_prefix_and_only_pages_that_exist(announced):
    record = await announced(terminal=False, root_path="/vision", playground=False)
    assert record.docs == f"{ADDRESS}/vision/docs"
    assert not hasattr(record, "page")
