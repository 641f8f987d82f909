"""The README and the pages in docs/ agree with the code: settings, errors, endpoints, examples."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from PIL import Image
from prometheus_client import CollectorRegistry, generate_latest

from app.api.routes.docs import make_router as docs_router
from app.api.routes.health import router as health_router
from app.api.routes.images import router as images_router
from app.api.routes.models import router as models_router
from app.api.routes.status import router as status_router
from app.core import errors
from app.core.process import LOAD_FAILED, RUN_FAILED, SIGNAL_BASE, START_FAILED, USAGE_ERROR
from app.core.settings import PREFIX, Settings
from app.observability.metrics import Metrics
from app.replicas.heartbeats import HeartbeatTable
from app.replicas.metrics import ReplicaCollector

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/GPU.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
API, DEPLOYMENT = PAGES["docs/api.md"], PAGES["docs/deployment.md"]
SENT = [kind for kind in errors.ServiceError.__subclasses__() if kind is not errors.ClientGone]
STARTS_WITHIN_S = 100
CRYPTIC = re.compile(  # the brackets keep this file out of a search for these words
    r"\bhee[d]|\bles[t]\b|whoeve[r]|whenc[e]|forete[l]l|foretol[d]|hangs o[n]|be it tha[t]"
    r"|\bof lat[e]\b|Knows nothing o[f]",
    re.IGNORECASE,
)


def blocks(text: str, language: str) -> list[str]:
    """The contents of the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """The text without code blocks and inline code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# settings, endpoints, errors, exit statuses, metrics


@pytest.mark.parametrize("name", Settings.flags())
def test_every_flag_is_in_the_table_with_its_default(name):
    field = Settings.model_fields[name]
    is_switch = field.annotation is bool
    default = (
        ("off", "on")[field.default]
        if is_switch
        else f"`{field.default}`"
        if field.default != ""
        else ""
    )
    row = f"| `--{name.replace('_', '-')}` | {default} | {field.description} |"
    assert row in PAGES["docs/settings.md"].splitlines()


@pytest.mark.parametrize("name", Settings.model_fields.keys() - Settings.flags().keys())
def test_every_setting_that_is_no_flag_is_in_the_table(name):
    row = f"| `{PREFIX}{name.upper()}` |  | {Settings.model_fields[name].description} |"
    assert row in PAGES["docs/settings.md"].splitlines()


def test_the_table_has_no_other_setting():
    rows = re.findall(r"^\| `(--[a-z-]+|PATCHSERVE_\w+)` \|", PAGES["docs/settings.md"], re.M)
    assert len(rows) == len(Settings.model_fields)


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_is_mentioned_is_a_setting(page):
    names = {name.lower() for name in re.findall(rf"\b{PREFIX}([A-Z]\w*)", PAGES[page])}
    assert names <= Settings.model_fields.keys()


@pytest.mark.parametrize(
    "path",
    sorted(
        {
            route.path
            for router in (
                images_router,
                models_router,
                health_router,
                status_router,
                docs_router(),
            )
            for route in router.routes
            if "{name}" not in route.path or route.path == "/models/{name}"
        }
    ),
)
def test_every_endpoint_is_named(path):
    assert f"{path}`" in README
    assert path in API


def test_the_table_of_errors_is_complete_and_right():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| .+ \| (yes|no) \|$", API, re.M)
    documented = {code: (int(status), retryable == "yes") for code, status, retryable in rows}
    assert documented == {kind.code: (kind.status, kind.retryable) for kind in SENT}
    assert len(rows) == len(SENT)


def test_the_table_of_exit_statuses_is_complete():
    table = DEPLOYMENT.partition("### Exit statuses")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| ([\d+ n]+) \| \S", table, re.M)
    known = (0, START_FAILED, USAGE_ERROR, LOAD_FAILED, RUN_FAILED)
    assert documented == [*map(str, known), f"{SIGNAL_BASE} + n"]


@pytest.fixture(scope="module")
def series() -> set[str]:
    """The names of all series of one replica and of several."""
    several = CollectorRegistry()
    several.register(ReplicaCollector(HeartbeatTable(2)))
    text = (Metrics().exposition() + generate_latest(several)).decode()
    return set(re.findall(r"^# TYPE (patchserve_\w+) ", text, re.M))


@pytest.mark.parametrize("page", PAGES)
def test_every_metric_that_is_mentioned_exists(page, series):
    assert set(re.findall(r"\bpatchserve_[a-z_]+", PAGES[page])) <= series


# links, size, wording


def links(text: str) -> set[str]:
    """The targets of the links and images of a page that are not web addresses."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(text)) + re.findall(r'<img src="([^"]+)"', text)
    return {target for target in found if not re.match(r"https?://", target)}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_lead_somewhere(page):
    for target in links(PAGES[page]):
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_page_can_be_reached_from_an_index(page):
    index = "docs/decisions/README.md" if page.startswith("docs/decisions/") else "README.md"
    targets = {((ROOT / index).parent / link).resolve() for link in links(PAGES[index])}
    assert (ROOT / page).resolve() in targets or page == index


def test_the_readme_is_a_first_page():
    assert len(README.splitlines()) <= 150
    assert len(README.encode()) <= 9_000


@pytest.mark.parametrize("picture", re.findall(r"!\[.+\]\((docs/.+\.png)\)", README))
def test_the_pictures_are_readable_and_small(picture):
    assert (ROOT / picture).stat().st_size < 300_000
    with Image.open(ROOT / picture) as image:
        assert image.width >= 800


@pytest.mark.parametrize("page", PAGES)
def test_words_are_plain(page):
    assert CRYPTIC.findall(PAGES[page]) == []


# files and commands


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_are_mentioned_exist(page):
    named = re.findall(r"`((?:app|models|bench|docker|tests)/[\w/.-]+)`", PAGES[page])
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_tree_of_the_service_is_complete():
    tree = next(block for block in blocks(PAGES["docs/architecture.md"], "text") if "app/" in block)
    named, folders = set(), {}
    for indent, name in re.findall(r"^( *)([\w./]+)", tree.partition("app/\n")[2], re.M):
        folders[len(indent)] = name if name.endswith("/") else ""
        parents = [folder for depth, folder in sorted(folders.items()) if depth < len(indent)]
        named.add("".join([*parents, name]))
    found = {
        str(path.relative_to(ROOT / "app"))
        for path in (ROOT / "app").rglob("*.py")
        if path.name != "__init__.py"
    }
    whole = tuple(name for name in named if name.endswith("/") and f"\n{name}" not in tree)
    listed = {name for name in named if name.endswith(".py")}
    assert listed <= found
    assert {path for path in found - listed if not path.startswith(leaves(whole, listed))} == set()


def leaves(folders: tuple[str, ...], listed: set[str]) -> tuple[str, ...]:
    """The folders of which no single file is listed."""
    return tuple(folder for folder in folders if not any(one.startswith(folder) for one in listed))


def test_the_container_command_fits_the_dockerfile_and_the_compose_file():
    (command,) = (block for block in blocks(README, "sh") if "docker run" in block)
    dockerfile = (ROOT / "Dockerfile").read_text()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["patchserve"]
    (built,) = re.findall(r"docker build -t (\S+) \.", command)
    assert command.split()[-1] == built == compose["image"]
    (port,) = re.findall(r"-p 127\.0\.0\.1:\d+:(\d+)", command)
    assert int(port) == Settings.model_fields["port"].default
    assert f"EXPOSE {port}" in dockerfile
    (user,) = re.findall(r"^USER (\d+):", dockerfile, re.M)
    assert f"user {user}" in README
    (mount,) = re.findall(r'-v "\$PWD/my-vit:(\S+):ro"', command)
    assert f"-e PATCHSERVE_CLASSIFIER={mount}" in command


def test_the_extras_of_the_makefile_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (known,) = re.findall(r"^EXTRAS_KNOWN := (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(known.split()) == project["optional-dependencies"].keys()


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in blocks(README.partition("## Test")[2], "sh")[0]
    assert "make test" in (ROOT / ".ci/run").read_text().splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_json_examples_are_json(page):
    for block in blocks(PAGES[page], "json"):
        json.loads(block)


# examples


def run(command: list[str], folder: Path) -> str:
    """The output of a command."""
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_classification_in_ten_lines_gives_the_truth():
    (example,) = blocks(PAGES["docs/models.md"], "python")
    truth = json.loads((ROOT / "tests/samples/truth.json").read_text())
    shown = run([sys.executable, "-W", "error", "-c", example], ROOT)
    assert shown.strip() == truth["scene-0000.png"]["label"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the service with the bundled checkpoints, which is ready."""
    log = tmp_path_factory.mktemp("service") / "log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    environment |= {
        "PATCHSERVE_RUNTIME": "torch",
        "PATCHSERVE_LAME_DUCK_S": "0",
        "PATCHSERVE_MAX_BATCH_SIZE": "4",  # the warm-up measures every size
    }
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=output)
    try:
        yield ready(process, log)
    finally:
        process.terminate()
        process.wait(timeout=60)


def ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the process serves, and return its address."""
    until = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
        found = re.search(r"listening on (http://[\d.:]+)", log.read_text())
        if found is not None and is_ready(found[1]):
            return found[1]
    raise TimeoutError(log.read_text())


def is_ready(url: str) -> bool:
    """Whether /readyz answers 200."""
    try:
        with urlopen(f"{url}/readyz", timeout=10) as answer:  # noqa: S310  # our own address
            return answer.status == 200
    except URLError:  # not yet, or 503
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the commands of the README find the samples, and may write."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_commands_give_what_the_readme_shows(url, folder):
    classify, segment = re.findall(
        r"```sh\n(curl .+?)```\s+```(?:json|text)\n(.+?)```", README, re.DOTALL
    )

    def ask(command: str) -> str:
        return run(
            ["bash", "-c", f"set -e; {command.replace('http://127.0.0.1:8000', url)}"], folder
        )

    answer, shown = (
        json.loads(ask(classify[0].replace("curl", "curl -sS"))),
        json.loads(classify[1]),
    )
    assert answer["model"] == shown["model"]
    for one, expected in zip(answer["predictions"], shown["predictions"], strict=True):
        assert one == expected | {"score": pytest.approx(expected["score"], abs=0.03)}
    found, documented = ask(segment[0].replace("curl", "curl -sS")).split(), segment[1].split()
    assert found[:2] == documented[:2] == ["200", "image/png"]
    assert int(found[2]) == pytest.approx(int(documented[2]), rel=0.1)
    with Image.open(folder / "mask.png") as mask:
        assert mask.size == (128, 128)


def test_the_python_example_works_as_pasted(url, folder):
    ((example, printed),) = re.findall(
        r"```python\n(.+?)```\s+```text\n(.+?)```", README, re.DOTALL
    )
    example = example.replace("http://127.0.0.1:8000", url)
    assert run([sys.executable, "-c", example], folder) == printed
