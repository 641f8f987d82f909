"""The OpenAPI document describes the running service, by all checks of schemathesis."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.xdist_group(name="bundled")  # they share a service
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
HOOKS = "tests.hostile.contract"
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/hostile/contract/schemathesis.toml"
# bytes that are no image fit the document as well as an image does, but are refused
FLAGS = {"honest": [], "mutants": ["--exclude-checks", "positive_data_acceptance"]}


@pytest.fixture(scope="module")
def service(bundled):
    """The shared service; these requests add no traceback to its log."""
    before = len(bundled.log.read_text())
    yield bundled
    assert "Traceback" not in bundled.log.read_text()[before:]


@pytest.fixture
def check(service):
    """Run schemathesis with these hooks and a number of generated requests per operation."""

    def run(hooks: str, examples: int) -> subprocess.CompletedProcess[str]:
        command = [SCHEMATHESIS, "--config-file", CONFIG, "run", f"{service.url}/openapi.json"]
        flags = ["--checks", "all", *FLAGS[hooks], "--max-examples", str(examples), "--seed", "1"]
        quiet = ["--continue-on-failure", "--no-color", "--generation-database", "none"]
        return subprocess.run(
            [*command, *flags, *quiet],
            env=os.environ | {"SCHEMATHESIS_HOOKS": f"{HOOKS}.{hooks}", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    return run


def test_the_service_fits_its_document(check):
    completed = check("honest", 10)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "Tested: 12" in completed.stdout


def test_the_example_image_of_the_document_gets_its_label(service):
    paths = service.get("/openapi.json").json()["paths"]
    content = paths["/classify"]["post"]["requestBody"]["content"]
    example = content["application/json"]["schema"]["example"]
    response = httpx.post(f"{service.url}/classify", json=example)
    assert response.json()["predictions"][0]["label"] == "star"


@pytest.mark.slow
@pytest.mark.parametrize("hooks", FLAGS)
def test_the_service_fits_its_document_over_many_requests(check, hooks):
    completed = check(hooks, 300)
    assert completed.returncode == 0, completed.stdout[-20_000:] + completed.stderr
