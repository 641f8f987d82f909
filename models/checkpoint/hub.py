"""Checkpoints on the Hugging Face Hub: from an id to a folder in the Hub's local cache."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from models.checkpoint.unusual_folders import names_in, only_weights, weights_among
from models.errors import CheckpointError

DOCUMENTS = [
    "config.json",
    "labels.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "adapter_config.json",
]
SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"]

HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^@]+))?")


def is_hub_id(source: str) -> bool:
    """Whether the text has the form org/name[@revision]; the repository need not exist."""
    return HUB_ID.fullmatch(source) is not None


def fetch(source: str) -> Path:
    """Return the folder of the checkpoint org/name[@revision], downloading what is not cached.

    Downloads the JSON files and the safetensors, pickles only if there are no safetensors, and the
    only file of weights if it has another name. Without a network connection, or with
    HF_HUB_OFFLINE=1, uses the cache alone. The Hub client shows its own progress bars.

    Raises:
        CheckpointError: the id is invalid, the repository or revision does not exist or is not
            accessible, or it has no weights, or the Hub cannot be reached and the cache is
            incomplete.
    """
    match = HUB_ID.fullmatch(source)
    if match is None:
        raise CheckpointError(f"{source!r} is not a Hub id of the form org/name[@revision]")
    repository, revision = match["repository"], match["revision"]
    try:
        with readable_errors(repository, revision):
            return download(repository, revision)
    except CheckpointError as error:
        raise CheckpointError(
            f"there is no folder {source} here, and as a Hub id: {error}"
        ) from error


def download(repository: str, revision: str | None) -> Path:
    """Return the snapshot folder with the checkpoint. Errors are those of the Hub's client."""

    def snapshot(patterns: list[str]) -> Path:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))

    folder = snapshot(DOCUMENTS + SAFETENSORS)
    if not any(folder.glob("model*.safetensors*")):
        folder = snapshot(DOCUMENTS + PICKLES)
    present = names_in(folder) if folder.is_dir() else []  # there is none without a file
    if not weights_among(present) and "adapter_config.json" not in present:
        names = HfApi().list_repo_files(repository, revision=revision)
        folder = snapshot([*DOCUMENTS, only_weights(names, repository)])
    return folder


@contextmanager
def readable_errors(repository: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of the Hub's client into CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except HFValidationError as error:
        raise CheckpointError(f"{repository!r} is not a valid Hub id: {error}") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated: accept its terms on the Hub and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"the Hub has no repository {repository}, or it is private: check the name, or set"
            " HF_TOKEN to a token with access to it"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repository} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{repository} is not completely in the cache, and the Hub cannot be reached"
        ) from error
    except Exception as error:  # the errors of the Hub's client have no common base class
        raise CheckpointError(f"{repository} cannot be downloaded from the Hub: {error}") from error
