"""What a folder or a repository holds that is not a usual checkpoint, and what to do with it.

Names are relative to the folder; that of a folder in it ends with a slash.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.checkpoint.files import is_present
from models.checkpoint.parameter_names import join_names
from models.checkpoint.state_dict import MERGE
from models.errors import CheckpointError

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
WEIGHT_FILES = (  # in order of preference
    SAFETENSORS,
    f"{SAFETENSORS}.index.json",
    PICKLE,
    f"{PICKLE}.index.json",
)
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")  # of a single file of weights
TRAINING_STATE = re.compile(  # what transformers and accelerate save beside the weights
    r"(training_args|optimizer|scheduler|scaler|rng_state(_\d+)?|random_states_\d+)\.\w+"
)
SHARD = re.compile(r".*-\d+-of-\d+\.\w+")
CHECKPOINT = re.compile(r"checkpoint-(?P<step>\d+)/.*")  # in a folder of transformers' Trainer
CONVERT = (
    "transformers 4 converts them: Class.from_pretrained(folder, {}=True).save_pretrained(new)"
)
FORMATS = {  # of other frameworks, by suffix: the name, and what to do
    ".onnx": ("ONNX", "serve the PyTorch network that they were exported from"),
    ".h5": ("TensorFlow", CONVERT.format("from_tf")),
    ".pb": ("TensorFlow", CONVERT.format("from_tf")),
    ".msgpack": ("Flax", CONVERT.format("from_flax")),
}


def names_in(folder: Path) -> list[str]:
    """Return the names of what is in a folder, sorted, and of what is in its folder onnx.

    Raises:
        CheckpointError: the folder cannot be read.
    """
    try:
        paths = [*folder.iterdir(), *folder.glob("onnx/*")]
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(f"{path.relative_to(folder).as_posix()}{'/' * path.is_dir()}" for path in paths)


def weights_among(names: Iterable[str]) -> list[str]:
    """Return the names of files of weights, without the state of a training."""
    return [
        name
        for name in names
        if "/" not in name and name.endswith(WEIGHT_SUFFIXES) and not TRAINING_STATE.fullmatch(name)
    ]


def only_weights(names: Sequence[str], source: str) -> str:
    """Return the name of the only file of weights.

    Args:
        names: of all files and folders.
        source: where they are, for messages.

    Raises:
        CheckpointError: there is no file of weights, or more than one.
    """
    found = weights_among(names)
    if len(found) == 1:
        return found[0]
    if not found:
        raise CheckpointError(
            f"no weights found in {source}: looked for {', '.join(WEIGHT_FILES)}"
            f"{advice(names, source)}"
        )
    if all(SHARD.fullmatch(name) for name in found):
        raise CheckpointError(f"{source} has shards without their index: {join_names(found)}")
    raise CheckpointError(
        f"{source} has several files of weights: {join_names(found)}; rename the one to serve to "
        f"{SAFETENSORS}, or to {PICKLE} if torch.save wrote it"
    )


def refuse_adapter(folder: Path) -> None:
    """Raise CheckpointError for the folder of a LoRA adapter, which changes another network."""
    if is_present(folder / "adapter_config.json"):
        raise CheckpointError(f"{folder} has an adapter_config.json: it is {MERGE}")


def refuse_format(path: Path) -> None:
    """Raise CheckpointError for a file that is not weights of PyTorch, by its suffix."""
    if path.suffix in FORMATS:
        name, what_to_do = FORMATS[path.suffix]
        raise CheckpointError(f"{path.name} has weights of {name}, not of PyTorch: {what_to_do}")
    if path.suffix == ".json":
        raise CheckpointError(f"{path.name} is not a file of weights: pass its folder")


def advice(names: Sequence[str], source: str) -> str:
    """Say what there is instead of config.json or weights, and what to do.

    Returns:
        the end of a sentence, which begins with a semicolon; empty if nothing is known.
    """
    if steps := {int(match["step"]) for name in names if (match := CHECKPOINT.fullmatch(name))}:
        newest = f"{source.rstrip('/')}/checkpoint-{max(steps)}"
        return f"; it has checkpoints of a training: pass the folder of the newest, {newest}"
    if weights := weights_among(names):
        return (
            f"; it has weights ({join_names(weights, 3)}): put the config.json of their network "
            "beside them, or pass the file itself if another library wrote it"
        )
    for suffix, (name, what_to_do) in FORMATS.items():
        if found := [each for each in names if each.endswith(suffix)]:
            return f"; it has only weights of {name} ({join_names(found, 3)}): {what_to_do}"
    return ""
