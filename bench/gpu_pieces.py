"""The pieces of bench.gpu_session: their commands, their time, what they need and show."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PASSED = "passed"
MPS = "nvidia-cuda-mps-control"
TIMEOUT_S = 570.0  # of a piece; some machines with a GPU are lent for ten minutes at a time
TORCH = ("torch", "numpy", "PIL", "safetensors", "huggingface_hub")
WEB = ("fastapi", "uvicorn", "pydantic", "pydantic_settings", "multipart", "prometheus_client")
SERVICE = (*TORCH, *WEB, "typer", "rich")
TESTS = (*SERVICE, "pytest", "pytest_timeout", "httpx", "transformers", "hypothesis")
NETWORKS = ("ViT-B/16", "ViT-Ti/16", "ViT-L/16", "SegFormer-B0", "SegFormer-B5")


class Bound(NamedTuple):
    """A bound of the best figure of a table's rows.

    Attributes:
        row: start of the first cell.
        column: heading of the figure; empty for the second column.
        limit: the bound.
        at_most: whether the figure must be at most the limit, not at least.
    """

    row: str
    column: str
    limit: float
    at_most: bool = False


class Piece(NamedTuple):
    """A part of the session.

    Attributes:
        name: name of the result's file.
        command: arguments of Python.
        shows: what the result shows.
        modules: the modules that it imports; a piece with none runs on every machine.
        programs: the programs that it runs.
        cuda: whether it has nothing to do on a CPU.
        bounds: what the figures must satisfy on a GPU.
        timeout_s: maximum wall-clock time, in seconds.
    """

    name: str
    command: Sequence[str]
    shows: str
    modules: Sequence[str] = TORCH
    programs: Sequence[str] = ()
    cuda: bool = False
    bounds: Sequence[Bound] = ()
    timeout_s: float = TIMEOUT_S


def pieces(device: str, out: Path, *, quick: bool) -> list[Piece]:
    """Return all pieces in the order in which they run.

    Args:
        device: cuda or cpu.
        out: folder of the results; a piece that writes files has a folder of its own there.
        quick: whether networks are tiny and times short.
    """
    return [
        *first(device, quick=quick),
        *networks(device, out, quick=quick),
        *replicas(device, quick=quick),
        *results(device, out, quick=quick),
        *failures(device, out, quick=quick),
    ]


def check(name: str, device: str, *more: str, quick: bool) -> list[str]:
    """Return the arguments of Python for a module of bench.gpu_checks."""
    return ["-m", f"bench.gpu_checks.{name}", "--device", device, *more, *["--quick"] * quick]


def gpu(name: str, table: str, device: str, out: Path, *more: str, quick: bool) -> list[str]:
    """Return the arguments of Python for a table of bench.gpu; `more` are flags of a full run."""
    chosen = ["--models", "ViT-Ti/16", "--batches", "1", "--seconds", "0.01"] if quick else more
    where = ["--device", device, "--out", str(out / name)]
    return ["-m", "bench.gpu", "--tables", table, *chosen, *where]


def first(device: str, *, quick: bool) -> list[Piece]:
    """Return the pieces that show whether the code works at all."""
    pytest = ["-m", "pytest", "-q", "-m", "gpu"]
    lenient = ["-o", "strict=false", "-o", "filterwarnings=default"]  # without pytest-timeout
    kernel = [*pytest, *lenient, "tests/models/test_label_map_triton.py"]
    return [
        Piece(
            "environment",
            check("environment", device, quick=quick),
            "versions, driver, device, Triton, C compiler",
            modules=(),
        ),
        Piece(
            "kernel_tests",
            kernel,
            "the label map kernel equals the tensor operations",
            modules=("torch", "numpy", "pytest", "triton"),
            cuda=True,
        ),
        Piece("tests", pytest, "all tests marked gpu", modules=TESTS, cuda=True),
        Piece(
            "first_contact",
            check("first_contact", device, quick=quick),
            "start with cold and warm caches, first mask, cost table, captured sizes",
            modules=SERVICE,
        ),
    ]


def networks(device: str, out: Path, *, quick: bool) -> list[Piece]:
    """Return the pieces that measure the forward pass and the pipeline."""
    ways, largest = ("--ways", "eager", "graphs"), ("--models", "ViT-B/16")
    forward = ("--models", *NETWORKS, *ways)
    compiled = (*largest, "--batches", "32", *ways, "torch.compile", "torch.compile, graphs")
    staged = (*largest, "--batches", "8", "32", "128")
    return [
        Piece(
            "forward",
            gpu("forward", "networks", device, out, *forward, quick=quick),
            "forward pass, eager and as graphs, against a matrix product",
            bounds=[Bound("ViT-B/16", "ratio", 0.25)],
        ),
        Piece(
            "attention",
            check("attention", device, quick=quick),
            "cuDNN's attention against flash attention: first call and later calls",
        ),
        Piece("kernels", check("kernels", device, quick=quick), "the ten longest kernels"),
        Piece(
            "compile",
            gpu("compile", "networks", device, out, *compiled, quick=quick),
            "torch.compile against graphs",
            cuda=True,
        ),
        Piece(
            "staged",
            gpu("staged", "pipeline", device, out, *staged, quick=quick),
            "the pipeline against the forward pass alone",
            bounds=[Bound("ViT-B/16", "staged / forward pass", 0.9)],
        ),
    ]


def replicas(device: str, *, quick: bool) -> list[Piece]:
    """Return the pieces that measure several replicas on one device."""
    return [
        Piece(
            "http",
            check("http", device, quick=quick),
            "images/s over HTTP with 1, 2, 4 and 8 replicas",
            modules=SERVICE,
        ),
        Piece(
            "http_mps",
            check("http", device, "--mps", quick=quick),
            "the same with NVIDIA's Multi-Process Service (MPS)",
            modules=SERVICE,
            programs=[MPS],
            cuda=True,
        ),
    ]


def results(device: str, out: Path, *, quick: bool) -> list[Piece]:
    """Return the pieces about label maps and the agreement of labels."""
    return [
        Piece(
            "label_map",
            gpu("label_map", "label_map", device, out, quick=quick),
            "both label maps at 480 x 640, 3 and 12 megapixels",
        ),
        Piece(
            "precision",
            check("precision", device, quick=quick),
            "agreement of bfloat16 with float32 on the best and the best five labels",
        ),
    ]


def failures(device: str, out: Path, *, quick: bool) -> list[Piece]:
    """Return the pieces about faults and overload."""
    case = ["--networks", "ViT-B/16", "--timeout-s", "5", "--concurrency", "256"]
    tiny = ["--networks", "T", "--timeout-s", "1", "--concurrency", "8"]
    short = ["--seconds", "4", "--capacity-s", "2", "--calm-s", "3", "--no-repeat"]
    overload = ["-m", "bench.overload", *case]
    if quick:
        overload = ["-m", "bench.overload", *tiny, *short]
    return [
        Piece(
            "faults",
            check("faults", device, quick=quick),
            "no C compiler, little memory left, an illegal memory access",
            modules=SERVICE,
        ),
        Piece(
            "overload",
            [*overload, "--out", str(out / "overload")],
            "three times the capacity for a minute",
            modules=(*SERVICE, "matplotlib"),
            bounds=[
                Bound("goodput over capacity", "", 0.95),
                Bound("accepted, then 504", "", 1.0, at_most=True),
            ],
        ),
    ]
