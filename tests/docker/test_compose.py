"""The files of docker compose: mounts, privileges, and how the services find each other."""

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest
import yaml

from app.core.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]


def read(path: str):
    return yaml.safe_load((ROOT / path).read_text())


SERVICES = read("docker-compose.yml")["services"]


def mounts(service: str) -> dict[str, str]:
    """The source of each path that is mounted in a service."""
    return {
        target: source
        for source, target, *_ in (v.split(":") for v in SERVICES[service]["volumes"])
    }


@pytest.mark.parametrize("service", SERVICES)
def test_mounted_paths_exist(service):
    volumes = read("docker-compose.yml")["volumes"]
    for source in mounts(service).values():
        assert (ROOT / source).is_dir() if source.startswith(".") else source in volumes


@pytest.mark.parametrize("service", SERVICES)
def test_images_of_others_are_pinned_have_health_checks_and_are_restarted(service):
    settings = SERVICES[service]
    assert settings["restart"] == "unless-stopped"
    if "build" not in settings:
        assert settings["image"].partition(":")[2] not in ("", "latest")
        assert settings["healthcheck"]["test"]


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_gains_privileges(service):
    settings = SERVICES[service]
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]


def test_the_service_can_write_only_to_its_cache_and_tmp():
    settings = SERVICES["patchserve"]
    assert settings["read_only"] is True
    assert settings["tmpfs"] == ["/tmp"]  # noqa: S108  # in the container
    assert set(mounts("patchserve")) == {"/cache"}


def test_prometheus_scrapes_the_services_port():
    (job,) = read("docker/prometheus/prometheus.yml")["scrape_configs"]
    ((target,),) = (config["targets"] for config in job["static_configs"])
    host, port = target.split(":")
    assert port == SERVICES[host]["ports"][0].split(":")[-1]
    assert int(port) == Settings.model_fields["port"].default
    (option,) = (o for o in SERVICES["prometheus"]["command"] if o.startswith("--config.file="))
    path = PurePosixPath(option.partition("=")[2])
    assert (ROOT / mounts("prometheus")[str(path.parent)] / path.name).exists()


def test_grafana_finds_prometheus_and_the_dashboards():
    provisioning = ROOT / mounts("grafana")["/etc/grafana/provisioning"]
    (source,) = read(provisioning / "datasources/prometheus.yml")["datasources"]
    assert urlsplit(source["url"]).hostname in SERVICES
    (provider,) = read(provisioning / "dashboards/patchserve.yml")["providers"]
    folder = PurePosixPath(provider["options"]["path"])
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert PurePosixPath(home).parent == folder
    assert (ROOT / mounts("grafana")[str(folder)] / PurePosixPath(home).name).exists()


def test_the_settings_in_the_environment_exist():
    override = read("docker/compose.gpu.yml")["services"]
    assert override.keys() <= SERVICES.keys()
    for services in (SERVICES, override):
        for name in services["patchserve"]["environment"]:
            if name.startswith(PREFIX):
                assert name.removeprefix(PREFIX).lower() in Settings.model_fields
