"""The error without the optional package, and its disabled telemetry."""

import subprocess
import sys

import pytest

from models.runtimes.openvino import available, package

IMPORTED = """
import sys
from models.runtimes.openvino.package import import_openvino
import_openvino()
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__, "openvino_telemetry" in sys.modules)
"""


def test_the_error_without_openvino_says_what_to_install(monkeypatch):
    monkeypatch.setattr(package, "find_spec", lambda name: None)
    assert not available()
    with pytest.raises(RuntimeError, match="make install EXTRAS=openvino"):
        package.import_openvino()


def test_the_telemetry_of_the_package_is_disabled():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]
