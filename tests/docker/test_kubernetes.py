"""The Kubernetes manifests: user, writable paths, probes and shutdown."""

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
OBJECTS = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}
POD = OBJECTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LAME_DUCK_S, DRAIN_S = 5, 12
GPU = ROOT / "docker/kubernetes-gpu"
KUBECTL = shutil.which("kubectl")
VALIDATE = shutil.which("kubernetes-validate")


def test_it_runs_as_the_user_of_the_image_which_is_not_root():
    (user, group) = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE).groups()
    context = POD["spec"]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["spec"]["automountServiceAccountToken"] is False


def test_it_has_no_capabilities_and_can_write_only_to_its_volumes():
    context = CONTAINER["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}
    mounted = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    assert set(mounted) == {"/cache", "/tmp"}  # noqa: S108  # in the container
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert all("emptyDir" in volumes[name] for name in mounted.values())


def test_caches_are_in_a_writable_folder():
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
def test_each_probe_uses_its_endpoint_on_the_ops_port(probe, path):
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "ops"}
    assert path in {route.path for route in health.router.routes}
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports["http"] == Settings.model_fields["port"].default
    (ops,) = [each["value"] for each in CONTAINER["env"] if each["name"] == f"{PREFIX}OPS_PORT"]
    assert ports["ops"] == int(ops)
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == ops


def test_the_grace_period_covers_a_shutdown_and_a_rollout_keeps_ready_pods():
    assert POD["spec"]["terminationGracePeriodSeconds"] > LAME_DUCK_S + DRAIN_S
    update = OBJECTS["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    assert update["maxSurge"] > 0
    assert OBJECTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_all_objects_select_the_same_pods():
    labels = POD["metadata"]["labels"]
    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    (port,) = OBJECTS["Service"]["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_the_settings_in_the_environment_exist_and_keys_come_from_a_secret():
    environment = {each["name"]: each for each in CONTAINER["env"]}
    for name in environment:
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields
    assert "value" not in environment[f"{PREFIX}API_KEYS"]


def merged(base, patch):
    """A strategic merge of objects, in which lists of named objects are merged by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        both = {key: merged(base[key], patch[key]) for key in base.keys() & patch.keys()}
        return base | patch | both
    if isinstance(patch, list) and all(isinstance(each, dict) for each in patch):
        named = [{each["name"]: each for each in objects} for objects in (base, patch)]
        return list(merged(*named).values())
    return patch


def test_the_overlay_gives_each_pod_one_gpu_and_changes_nothing_else():
    overlay = yaml.safe_load((GPU / "kustomization.yaml").read_text())
    assert overlay["resources"] == ["../kubernetes"]
    (patch,) = [yaml.safe_load((GPU / each["path"]).read_text()) for each in overlay["patches"]]
    deployment = OBJECTS["Deployment"]
    found = merged(deployment, patch)
    assert found["metadata"] == deployment["metadata"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["requests"] == CONTAINER["resources"]["requests"]
    (device,) = [each for each in container["env"] if each not in CONTAINER["env"]]
    compose = yaml.safe_load((ROOT / "docker/compose.gpu.yml").read_text())
    assert {device["name"]: device["value"]} == compose["services"]["patchserve"]["environment"]
    changed = {key for key in container if container[key] != CONTAINER[key]}
    assert changed == {"env", "resources"}


@pytest.mark.parametrize("folder", [MANIFEST.parent, GPU], ids=["base", "gpu"])
@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")
def test_kustomize_builds_all_objects(folder):
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    assert built.keys() == OBJECTS.keys()
    (container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (folder == GPU)
    assert container["securityContext"] == CONTAINER["securityContext"]


@pytest.mark.skipif(VALIDATE is None, reason="kubernetes-validate is not installed")
def test_the_manifests_are_valid():
    done = subprocess.run([VALIDATE, "--strict", MANIFEST], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
