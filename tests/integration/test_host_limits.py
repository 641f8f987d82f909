"""The real process under a CPU quota, and with a lower priority."""

import os
import shutil
import uuid
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import PATCHSERVE

pytestmark = pytest.mark.xdist_group(name="timing")
SCENE = Path(__file__).parents[1] / "samples/scene-0000.png"
CPU = Path("/sys/fs/cgroup/cpu")  # where cgroup v1 is mounted
SETPRIV, NICE = shutil.which("setpriv"), shutil.which("nice")


@pytest.fixture
def half_a_cpu():
    """A cgroup of half a CPU."""
    folder = CPU / f"patchserve-{uuid.uuid4().hex}"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text("50000")
    yield folder
    folder.rmdir()


def started(service) -> list[str]:
    return [line["message"] for line in service.records() if line["message"].startswith("device: ")]


@pytest.mark.skipif(
    not os.access(CPU, os.W_OK),
    reason="no cgroups of version 1, or no permission to make one",
)
def test_half_a_cpu_runs_one_lane_and_answers(launch, small, half_a_cpu):
    into = f'echo $$ > {half_a_cpu}/cgroup.procs && exec "$@"'
    with launch(*small, program=["/bin/sh", "-c", into, "sh", str(PATCHSERVE)]) as service:
        assert started(service) == ["device: cpu, cores: 1"]
        response = httpx.post(f"{service.url}/classify", content=SCENE.read_bytes(), timeout=30)
        assert response.status_code == 200


@pytest.mark.skipif(not (SETPRIV and NICE), reason="setpriv or nice is not installed")
def test_a_user_without_the_right_to_raise_priorities_can_lower_that_of_the_service(launch, small):
    unprivileged = [SETPRIV, "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    with launch(*small, program=[*unprivileged, NICE, "-n", "10", str(PATCHSERVE)]) as service:
        response = httpx.post(f"{service.url}/classify", content=SCENE.read_bytes(), timeout=30)
        assert response.status_code == 200
        tasks = Path(f"/proc/{service.process.pid}/task").iterdir()
        stats = [(task / "stat").read_text().rpartition(")")[2].split() for task in tasks]
        assert {int(stat[16]) for stat in stats} == {10, 15}  # the event loop, and the lanes


def test_the_number_of_cores_can_be_set(launch, small):
    with launch(*small, "--cores", 3) as service:
        assert started(service) == ["device: cpu, cores: 3"]
