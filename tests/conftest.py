"""Owns what every test may ask for."""

import json
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def truth() -> dict[str, dict[str, str]]:
    """The sample scenes' truth: `label` and `mask` by file name."""
    return json.loads((SAMPLES / "truth.json").read_text())
