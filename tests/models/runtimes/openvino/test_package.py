"""The optional package: absent it is named, present it does not phone home."""

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


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(package, "find_spec", lambda name: None)
    assert not available()
    with pytest.raises(RuntimeError, match=r'pip install "patchserve\[openvino\]"'):
        package.import_openvino()


def test_what_the_package_reports_is_left_out():
    said = subprocess.run(
        [sys.executable, "-c", IMPORTED], check=True, capture_output=True, text=True
    )
    assert said.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]
