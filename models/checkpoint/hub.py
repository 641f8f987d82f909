"""Checkpoints of the Hugging Face hub: an id to a local folder, through the hub's cache.

Knows nothing of what the files hold.
"""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from models.errors import CheckpointError

DOCUMENTS = ["config.json", "preprocessor_config.json", "processor_config.json"]
SAFETENSORS = ["model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"]
PICKLES = ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"]

ID = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^@]+))?")


def is_hub_id(source: str) -> bool:
    """Whether the text has the form org/name[@revision]; whether it exists is another question."""
    return ID.fullmatch(source) is not None


def fetch(source: str) -> Path:
    """The folder of the checkpoint org/name[@revision], downloaded unless the cache has it.

    Fetches the documents and the safetensors, and pickles only where there are no safetensors.
    Without a network, or with HF_HUB_OFFLINE=1, the cache alone decides. The hub's own progress
    bars show. CheckpointError when the id, the revision or the network is not there.
    """
    match = ID.fullmatch(source)
    if match is None:
        raise CheckpointError(f"{source!r} is no hub id of the form org/name[@revision]")
    folder = download(match["repository"], match["revision"], DOCUMENTS + SAFETENSORS)
    if not any(folder.glob("model*.safetensors*")):
        folder = download(match["repository"], match["revision"], DOCUMENTS + PICKLES)
    return folder


def download(repository: str, revision: str | None, patterns: list[str]) -> Path:
    """The snapshot folder, with the files of those patterns in it."""
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise CheckpointError(f"{repository!r} is no valid hub id: {error}") from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated: accept its terms on the hub and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"the hub has no {repository}, or it is private and HF_TOKEN does not open it"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repository} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{repository} is not in the cache, or not whole, and the hub cannot be reached"
        ) from error
    except Exception as error:  # the errors of the hub's client share no base
        raise CheckpointError(f"{repository} cannot be fetched from the hub: {error}") from error
