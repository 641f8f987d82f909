"""The package openvino: whether it is installed, and its import without what it reports.

Knows nothing of networks.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

TELEMETRY = "openvino_telemetry"


def available() -> bool:
    """Whether the package is installed; it is not imported to know."""
    return find_spec("openvino") is not None


def import_openvino() -> Any:
    """The module openvino. RuntimeError, with what to do about it, when it is not installed.

    The package reports over the network that it was imported, and each conversion. It does not
    where its telemetry cannot be imported, so that is made to fail while openvino comes in.
    """
    if not available():
        raise RuntimeError('OpenVINO is not installed: pip install "patchserve[openvino]"')
    hidden = "openvino" not in sys.modules and TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # None makes its import fail
    try:
        return import_module("openvino")
    finally:
        if hidden:
            del sys.modules[TELEMETRY]
