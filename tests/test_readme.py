"""What the README says of settings, errors and endpoints is what the service has."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.core import errors
from app.core.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", Settings.flags())
def test_every_flag_is_in_the_table_with_its_default(name):
    field = Settings.model_fields[name]
    default = f"`{field.default}`" if field.default != "" else ""
    assert f"| `--{name.replace('_', '-')}` | {default} | {field.description} |" in README


@pytest.mark.parametrize("name", Settings.model_fields.keys() - Settings.flags().keys())
def test_every_setting_that_is_no_flag_is_in_the_table(name):
    field = Settings.model_fields[name]
    assert f"| `{PREFIX}{name.upper()}` |  | {field.description} |" in README


@pytest.mark.parametrize("kind", errors.ServiceError.__subclasses__())
def test_every_error_that_is_sent_is_named(kind):
    assert (f"`{kind.code}`" in README) is (kind is not errors.ClientGone)


@pytest.mark.parametrize(
    "path",
    ["/classify", "/segment", "/explain", "/models", "/livez", "/readyz", "/startupz", "/metrics"],
)
def test_every_endpoint_is_named(path):
    assert path in README


def test_the_classification_in_ten_lines_gives_the_truth():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    command = [sys.executable, "-W", "error", "-c", example]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    truth = json.loads((ROOT / "tests/samples/truth.json").read_text())
    assert shown.strip() == truth["scene-0000.png"]["label"]
