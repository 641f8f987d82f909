"""Hints in the problems of unknown paths and wrong methods."""

import pytest

from app.api import application
from app.api.route_hints import hint_for_method, hint_for_path
from app.core.shutdown import Shutdown
from app.observability.metrics import Metrics

OPS = "probes and /metrics are on the port of --ops-port"


@pytest.fixture(scope="module")
def routes():
    return application.build_app(None, Metrics(), Shutdown(0, 0)).router.routes


@pytest.fixture(scope="module")
def without_ops():
    return application.build_app(None, Metrics(), Shutdown(0, 0), with_ops=False).router.routes


@pytest.fixture(scope="module")
def ops():
    return application.build_ops_app(Metrics(), Shutdown(0, 0)).router.routes


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/segment/", "POST /segment"),
        ("/classify///", "POST /classify"),
        ("//explain", "POST /explain"),
        ("/models/", "GET /models"),
        ("/models/shapes-vit/", "GET /models/shapes-vit"),
        ("/models/b%d/", "GET /models/b%25d"),
        ("/readyz/", "GET /readyz"),
        ("/health/", "GET /health"),
        ("/healthz", "GET /health"),
        ("/healthz/", "GET /health"),
        ("/HealthZ", "GET /health"),
        ("/api/health", "GET /health"),
        ("/ping", "GET /livez"),
        ("/ready", "GET /readyz"),
        ("/v1/classify", "POST /classify"),
        ("/models/shapes-vit/classify", "POST /classify"),
        ("/Classify", "POST /classify"),
        ("/clasify", "POST /classify"),
        ("/segmentation", "POST /segment"),
        ("/predict", "POST /classify"),
        ("/metric", "GET /metrics"),
        ("/openapi", "GET /openapi.json"),
        ("/redoc", "GET /docs"),
    ],
)
def test_a_similar_path_is_named_with_its_method(routes, path, meant):
    assert hint_for_path(path, routes) == f"did you mean {meant}?"


@pytest.mark.parametrize("path", ["/nothing/here", "/", "/wp-login.php", "/x" * 5000, "/é"])
def test_other_paths_get_no_hint(routes, path):
    assert hint_for_path(path, routes) is None


@pytest.mark.parametrize("path", ["/readyz", "/health", "/healthz", "/metrics/", "/livez", "/ping"])
def test_with_an_ops_port_the_hint_for_a_probe_is_that_port(without_ops, path):
    assert hint_for_path(path, without_ops) == OPS


def test_the_ops_port_names_its_own_routes_alone(ops):
    assert hint_for_path("/healthz", ops) == "did you mean GET /health?"
    assert hint_for_path("/segment/", ops) is None
    assert hint_for_path("/predict", ops) is None


@pytest.mark.parametrize("name", ["x" * 200, "\u00e9" * 40, "a" * 10**6], ids=len)
def test_a_path_that_is_cut_in_the_error_gets_no_hint(routes, name):
    assert hint_for_path(f"/models/{name}/", routes) is None


@pytest.mark.parametrize(
    ("allowed", "hint"), [("POST", "send the image with POST"), ("GET", "use GET")]
)
def test_a_wrong_method_is_told_the_right_one(allowed, hint):
    assert hint_for_method(allowed) == hint
