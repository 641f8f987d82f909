"""The manifests: what runs as whom, what it may write, which probe asks what, and how it leaves."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.api.routes import health
from app.core.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "docker/kubernetes/patchserve.yaml"
OBJECTS = {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text())}
POD = OBJECTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LAME_DUCK_S, DRAIN_S = 5, 12
VALIDATE = shutil.which("kubernetes-validate")


def test_it_runs_as_the_images_user_who_is_not_root():
    (user, group) = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE).groups()
    context = POD["spec"]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["spec"]["automountServiceAccountToken"] is False


def test_it_can_gain_nothing_and_write_to_its_volumes_alone():
    context = CONTAINER["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert set(mounted) == {"/cache", "/tmp"}  # noqa: S108  # in the container
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert all("emptyDir" in volumes[name] for name in mounted.values())


def test_caches_are_kept_where_it_may_write():
    folders = re.findall(r"\b(?:HF_HOME|XDG_CACHE_HOME|TRITON_CACHE_DIR)=(\S+)", DOCKERFILE)
    assert len(folders) == 3
    assert all(folder.startswith("/cache") for folder in folders)


@pytest.mark.parametrize(
    ("probe", "path"),
    [
        ("startupProbe", "/startupz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ],
)
def test_each_probe_asks_its_endpoint_on_the_port_that_is_theirs(probe, path):
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "ops"}
    assert path in {route.path for route in health.router.routes}
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports["http"] == Settings.model_fields["port"].default
    (ops,) = [one["value"] for one in CONTAINER["env"] if one["name"] == f"{PREFIX}OPS_PORT"]
    assert ports["ops"] == int(ops)
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == ops


def test_there_is_time_to_leave_and_no_rollout_takes_a_ready_one():
    assert POD["spec"]["terminationGracePeriodSeconds"] > LAME_DUCK_S + DRAIN_S
    update = OBJECTS["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    assert update["maxSurge"] > 0
    assert OBJECTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_all_objects_mean_the_same_pods():
    labels = POD["metadata"]["labels"]
    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    (port,) = OBJECTS["Service"]["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_settings_that_are_passed_are_known_and_keys_come_from_a_secret():
    environment = {one["name"]: one for one in CONTAINER["env"]}
    for name in environment:
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields
    assert "value" not in environment[f"{PREFIX}API_KEYS"]


@pytest.mark.skipif(VALIDATE is None, reason="kubernetes-validate is not installed")
def test_the_manifests_are_valid():
    done = subprocess.run([VALIDATE, "--strict", MANIFEST], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
