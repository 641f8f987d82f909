"""The alert rules and the dashboard: every series, label and route that they read exists."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from app.api.routes import images
from app.observability.metrics import Metrics
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.metrics import ReplicaCollector

DOCKER = Path(__file__).parents[2] / "docker"
RULES = yaml.safe_load((DOCKER / "prometheus/rules.yml").read_text())
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/patchserve.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
BY_SCRAPE = {"up"}  # series and labels that Prometheus adds
LABELS_BY_SCRAPE = {"job", "instance", "le"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}
GROUPING = r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)"

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def metrics_in(promql: str) -> set[str]:
    """The names of the series that an expression reads."""
    bare = re.sub(r'"[^"]*"', "", re.sub(r"#.*", "", promql))
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", bare)
    bare = re.sub(GROUPING, " ", bare)
    names = re.findall(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", bare)
    return {name for name in names if name.lower() not in KEYWORDS}


def matchers_in(promql: str) -> Iterator[tuple[str, str, str]]:
    """Each (series, label, value) of an expression's selectors."""
    for name, matchers in re.findall(r"([\w:]+)\{([^}]*)\}", promql):
        for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', matchers):
            yield name, label, value


def groupings_in(promql: str) -> set[str]:
    """The labels that an expression groups by."""
    lists = [labels for _, labels in re.findall(GROUPING, promql)]
    return {label.strip() for labels in lists for label in labels.split(",") if label.strip()}


def exposed() -> set[str]:
    """Every series that /metrics can expose, with or without a sample."""
    several = CollectorRegistry()
    several.register(ReplicaCollector(HeartbeatTable(2)))
    text = (Metrics().exposition() + generate_latest(several)).decode()
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    return {name + suffix for name, kind in types for suffix in SUFFIXES[kind]}


def labels() -> dict[str, set[str]]:
    """The labels of each series of the service."""
    return {
        series._name: set(series._labelnames)
        for series in vars(Metrics()).values()
        if isinstance(series, MetricWrapperBase)
    }


def rule_expressions() -> list[str]:
    return [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


def panel_expressions() -> list[str]:
    variables = [
        found[1]
        for each in DASHBOARD["templating"]["list"]
        if (found := re.fullmatch(r"label_values\((.+), \w+\)", each["query"]["query"]))
    ]
    return variables + [target["expr"] for panel in PANELS for target in panel["targets"]]


EXPRESSIONS = sorted({*rule_expressions(), *panel_expressions()})
RECORDED = {
    rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule
}


@pytest.mark.parametrize(
    ("promql", "names"),
    [
        ("a_total", {"a_total"}),
        ('sum by (le, x) (rate(a_bucket{x=~"b|c"}[5m])) > 0.5', {"a_bucket"}),
        ("a / on (x) group_left (y) b or vector(0)", {"a", "b"}),
        ('histogram_quantile(0.99, sum(rate(a{m=~"$model"}[$__rate_interval]))) + 1e3', {"a"}),
        ("job:a:ratio_rate5m offset 5m > bool 2 # not this", {"job:a:ratio_rate5m"}),
        ("sum(a) by (b)", {"a"}),
        (
            "sum by (stage) (rate(patchserve_stage_durations_sum[1m]))",
            {"patchserve_stage_durations_sum"},
        ),
    ],
)
def test_names_are_found_in_expressions(promql, names):
    assert metrics_in(promql) == names


@pytest.mark.parametrize("promql", EXPRESSIONS)
def test_every_series_in_an_expression_is_exposed(promql):
    names = metrics_in(promql)
    assert names
    assert names <= exposed() | RECORDED | BY_SCRAPE


@pytest.mark.parametrize("promql", EXPRESSIONS)
def test_every_label_in_an_expression_exists(promql):
    known = labels()
    for name, label, _ in matchers_in(promql):
        own = known.get(re.sub(r"_(total|bucket|sum|count)$", "", name), set())
        assert label in own | LABELS_BY_SCRAPE, f"{name} has no {label}"
    assert groupings_in(promql) <= set().union(*known.values()) | LABELS_BY_SCRAPE


@pytest.mark.parametrize("promql", EXPRESSIONS)
def test_every_route_in_an_expression_is_served(promql):
    served = {route.path for route in images.router.routes}
    for _, label, value in matchers_in(promql):
        assert label != "route" or set(value.split("|")) <= served


def test_legends_use_labels_that_their_expression_keeps():
    known = set().union(*labels().values()) | LABELS_BY_SCRAPE
    for panel in PANELS:
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = groupings_in(target["expr"])
            assert named <= (kept or known), panel["title"]


def test_every_query_uses_the_provisioned_datasource():
    source = DOCKER / "grafana/provisioning/datasources/prometheus.yml"
    (provisioned,) = yaml.safe_load(source.read_text())["datasources"]
    used = {"type": provisioned["type"], "uid": provisioned["uid"]}
    queries = [target for panel in PANELS for target in panel["targets"]]
    for each in [*PANELS, *queries, *DASHBOARD["templating"]["list"]]:
        assert each["datasource"] == used


def test_panels_do_not_overlap_and_have_their_own_id():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", DOCKER / "prometheus/prometheus.yml"],
        ["test", "rules", Path(__file__).parent / "rules_test.yml"],
    ],
)
def test_promtool_accepts(command):
    done = subprocess.run([PROMTOOL, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_parses_the_panels_expressions(tmp_path):
    rules = [
        {"record": f"panel_{i}", "expr": promql.replace("$__rate_interval", "1m")}
        for i, promql in enumerate(panel_expressions())
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
