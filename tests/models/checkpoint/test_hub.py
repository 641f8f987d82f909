"""Loads checkpoints in new processes from a local HTTP server that imitates the Hub."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import Checkpoint, save
from models.checkpoint.hub import is_hub_id
from models.preprocessing import Preprocessing
from models.vit import ViT, ViTConfig

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REFUSED = {
    "org/unknown": "the Hub has no repository org/unknown",
    "org/name@v9": "org/name has no revision 'v9'",
    "gated/name": "gated/name is gated",
    "org/empty": "as a Hub id: no weights found in org/empty: looked for model.safetensors, ",
    "org/exported": "it has only weights of ONNX (onnx/model.onnx): serve the PyTorch network",
    "org/adapter": "has an adapter_config.json: it is a LoRA adapter: merge it first",
    "org/na..me": "not a valid Hub id",
}
LOAD = """
import json, sys
from models.checkpoint import CheckpointError, load

def outcome(source):
    try:
        checkpoint = load(source)
    except CheckpointError as error:
        return str(error)
    return [checkpoint.name, *checkpoint.labels]

print(json.dumps([outcome(source) for source in sys.argv[1:]]))
"""


class Hub(ThreadingHTTPServer):
    """Serves `repositories` (file contents by name, by id) like huggingface.co; logs requests."""

    def __init__(self, repositories):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repositories = repositories
        self.log = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        self.server.log.append(f"{self.command} {self.path}")

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "api":
            self.answer_api("/".join(parts[2:4]), *parts[4:6])
        else:
            self.answer_file("/".join(parts[:2]), parts[-1])

    def answer_api(self, repository, what, revision):
        files = self.server.repositories.get(repository)
        if repository.startswith("gated/"):
            self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif files is None:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", "v1", COMMIT):
            self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif what == "revision":
            siblings = [{"rfilename": name} for name in files]
            self.answer_json({"id": repository, "sha": COMMIT, "siblings": siblings})
        else:
            self.answer_json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": etag(content)}
                    for name, content in files.items()
                ]
            )

    def answer_json(self, document):
        self.answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def answer_file(self, repository, name):
        content = self.server.repositories[repository][name]
        self.answer(200, content, {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def etag(content):
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a small checkpoint, and two files that loading does not need."""
    tmp_path = tmp_path_factory.mktemp("checkpoint")
    network = ViT(
        ViTConfig(
            image_size=(16, 16),
            patch_size=8,
            hidden_size=8,
            num_layers=1,
            num_heads=2,
            mlp_size=8,
            num_labels=2,
        )
    )
    save(Checkpoint(network, ("cat", "dog"), Preprocessing(), "classify"), tmp_path / "files")
    contents = {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()}
    torch.save(load_file(tmp_path / "files/model.safetensors"), tmp_path / "pytorch_model.bin")
    contents["pytorch_model.bin"] = (tmp_path / "pytorch_model.bin").read_bytes()
    return contents | {"tf_model.h5": b"large", "README.md": b"# Cats and dogs"}


@pytest.fixture(scope="module")
def hub(files):
    pickled = {name: content for name, content in files.items() if name != "model.safetensors"}
    empty = {"README.md": b"# Nothing"}
    half = {**pickled, "model.fp16.safetensors": files["model.safetensors"]}
    del half["pytorch_model.bin"]
    hub = Hub(
        {
            "org/name": files,
            "org/pickled": pickled,
            "org/half": half,
            "org/empty": empty,
            "org/exported": empty | {"onnx/model.onnx": b"graph"},
            "org/adapter": {"adapter_config.json": b"{}", "adapter_model.safetensors": b""},
        }
    )
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    yield hub
    hub.shutdown()
    hub.server_close()
    thread.join()


def load_in_a_process(*sources, url, home, **environment):
    """Load each source in a new process; return the name and the labels, or the error."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *sources],
        env=clean | {"HF_ENDPOINT": url, "HF_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def downloads(hub, tmp_path_factory, process_coverage):
    """The Hub's cache after some downloads, the outcomes, the progress and the requests."""
    home = tmp_path_factory.mktemp("home")
    sources = ("org/name", "org/name@v1", "org/pickled", "org/half", *REFUSED)
    online, progress = load_in_a_process(*sources, url=hub.url, home=home, **process_coverage)
    return home, online, progress, list(hub.log)


def test_a_hub_checkpoint_is_downloaded_once_and_then_read_from_the_cache(hub, downloads):
    home, online, progress, requests = downloads
    names = [name for name, *_ in online[: -len(REFUSED)]]
    assert names == ["name", "name", "pickled", "half"]
    assert all(labels == ["cat", "dog"] for _, *labels in online[: -len(REFUSED)])
    assert "100%" in progress
    fetched = [line.split("/")[-1] for line in requests if line.startswith("GET /org/name/")]
    assert sorted(fetched) == ["config.json", "model.safetensors", "preprocessor_config.json"]

    hub.log.clear()
    offline, _ = load_in_a_process(
        "org/name",
        "org/pickled@main",
        "org/half",
        "org/other",
        url=hub.url,
        home=home,
        HF_HUB_OFFLINE="1",
    )
    assert [name for name, *_ in offline[:3]] == ["name", "pickled", "half"]
    assert "not completely in the cache" in offline[3]
    assert not hub.log


def test_the_command_that_checks_a_checkpoint_downloads_it(hub, tmp_path, process_coverage):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    ended = subprocess.run(
        [sys.executable, "-m", "app", "check", "org/name@v1", "--json"],
        env=clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)} | process_coverage,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    verdict = json.loads(ended.stdout)
    assert (verdict["checkpoint"], verdict["name"]) == ("org/name@v1", "name")
    assert verdict["labels"] == {"count": 2, "first": ["cat", "dog"]}


def test_without_a_network_connection_the_cache_is_used(downloads):
    home = downloads[0]
    unreachable = "http://127.0.0.1:9"  # the discard port, on which no server listens
    outcomes, _ = load_in_a_process("org/name", "org/other", url=unreachable, home=home)
    assert outcomes[0] == ["name", "cat", "dog"]
    assert "the Hub cannot be reached" in outcomes[1]


def test_the_error_says_why_the_hub_does_not_give_a_checkpoint(downloads):
    refused = downloads[1][-len(REFUSED) :]
    for outcome, text in zip(refused, REFUSED.values(), strict=True):
        assert text in outcome


def test_the_error_says_first_that_there_is_no_folder(downloads):
    outcome = downloads[1][-len(REFUSED)]
    assert outcome.startswith(
        "there is no folder org/unknown here, and as a Hub id: the Hub has no repository"
    )


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("org/name", True),
        ("google/vit-base-patch16-224", True),
        ("org/name_1.5@refs/pr/1", True),
        ("vit", False),
        ("a/b/c", False),
        ("./name", False),
        ("../name", False),
        ("/org/name", False),
        ("org/name@", False),
        ("org/name@v1@v2", False),
        ("org/name/", False),
        ("https://huggingface.co/org/name", False),
    ],
)
def test_a_hub_id_has_an_organization_a_name_and_an_optional_revision(source, is_one):
    assert is_hub_id(source) is is_one
