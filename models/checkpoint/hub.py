"""Checkpoints on the Hugging Face Hub: from an id to a folder in the Hub's local cache."""

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

HUB_ID = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^@]+))?")


def is_hub_id(source: str) -> bool:
    """Whether the text has the form org/name[@revision]; the repository need not exist."""
    return HUB_ID.fullmatch(source) is not None


def fetch(source: str) -> Path:
    """Return the folder of the checkpoint org/name[@revision], downloading what is not cached.

    Downloads the JSON files and the safetensors, and pickles only if there are no safetensors.
    Without a network connection, or with HF_HUB_OFFLINE=1, uses the cache alone. The Hub client
    shows its own progress bars.

    Raises:
        CheckpointError: the id is invalid, the repository or revision does not exist or is not
            accessible, or the Hub cannot be reached and the cache is incomplete.
    """
    match = HUB_ID.fullmatch(source)
    if match is None:
        raise CheckpointError(f"{source!r} is not a Hub id of the form org/name[@revision]")
    folder = download(match["repository"], match["revision"], DOCUMENTS + SAFETENSORS)
    if not any(folder.glob("model*.safetensors*")):
        folder = download(match["repository"], match["revision"], DOCUMENTS + PICKLES)
    return folder


def download(repository: str, revision: str | None, patterns: list[str]) -> Path:
    """Return the snapshot folder, which contains the files that match the patterns."""
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
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
            f"there is no folder {repository}; as a Hub id, it is not completely in the cache,"
            " and the Hub cannot be reached"
        ) from error
    except Exception as error:  # the errors of the Hub's client have no common base class
        raise CheckpointError(f"{repository} cannot be downloaded from the Hub: {error}") from error
