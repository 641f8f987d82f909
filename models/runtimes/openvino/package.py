"""The optional package openvino: detection, and an import that disables its telemetry."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

TELEMETRY = "openvino_telemetry"  # the module that reports imports and conversions


def available() -> bool:
    """Whether the package is installed; does not import it."""
    return find_spec("openvino") is not None


def import_openvino() -> Any:
    """Import the package openvino with telemetry disabled.

    The package reports its import and each conversion over the network, unless its telemetry module
    cannot be imported. So this function makes the import of that module fail.

    Raises:
        RuntimeError: the package is not installed.
    """
    if not available():
        raise RuntimeError("OpenVINO is not installed: run make install EXTRAS=openvino")
    hidden = "openvino" not in sys.modules and TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # None makes the import fail
    try:
        return import_module("openvino")
    finally:
        if hidden:
            del sys.modules[TELEMETRY]
