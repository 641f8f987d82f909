"""The OpenAPI document, held against the running service by schemathesis with all its checks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
HOOKS = "tests.hostile.contract"
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/hostile/contract/schemathesis.toml"
# bytes that are no image are described as rightly as those that are one, and refused
WAYS = {"honest": [], "mutants": ["--exclude-checks", "positive_data_acceptance"]}


@pytest.fixture(scope="module")
def service(launch):
    with launch() as service:
        yield service
    assert "Traceback" not in service.log.read_text()


@pytest.fixture
def check(service):
    """Run schemathesis with these hooks; so many drawn requests for each operation."""

    def run(hooks: str, examples: int) -> subprocess.CompletedProcess[str]:
        command = [SCHEMATHESIS, "--config-file", CONFIG, "run", f"{service.url}/openapi.json"]
        flags = ["--checks", "all", *WAYS[hooks], "--max-examples", str(examples), "--seed", "1"]
        quiet = ["--continue-on-failure", "--no-color", "--generation-database", "none"]
        return subprocess.run(
            [*command, *flags, *quiet],
            env=os.environ | {"SCHEMATHESIS_HOOKS": f"{HOOKS}.{hooks}", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize("hooks", WAYS)
def test_the_service_does_what_its_document_says(check, hooks):
    done = check(hooks, 25)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 9" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("hooks", WAYS)
def test_the_service_does_what_its_document_says_however_often_it_is_asked(check, hooks):
    done = check(hooks, 300)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
