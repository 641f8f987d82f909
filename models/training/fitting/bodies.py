"""Checkpoints to begin from: whole ones, and bodies without a head, which only training can use.

Does not know what is trained.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from models.checkpoint import Checkpoint, folder_of, load, name_of
from models.checkpoint.checkpoint import PROCESSORS, build, fill, preprocessing_of
from models.checkpoint.config import parse
from models.checkpoint.json_files import read_document
from models.checkpoint.parameter_names import HEAD_NAMES, translate
from models.checkpoint.weights import read_weights

# a body's name in config.json: the architecture it is the body of, and where it lies in that
BODIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ViTModel": ("ViTForImageClassification", "vit."),
        "DeiTModel": ("DeiTForImageClassification", "deit."),
        "SegformerModel": ("SegformerForImageClassification", "segformer."),
    }
)


def load_body(source: str | Path) -> Checkpoint:
    """The checkpoint of a folder or hub id, as `checkpoint.load`; to a bare body, add a new head.

    The head is random: it is there to be replaced. CheckpointError as `checkpoint.load`.
    """
    folder = folder_of(source)
    document = read_document(folder / "config.json")
    names = document.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or name not in BODIES:
        return load(source)
    whole, prefix = BODIES[name]
    config = parse({**document, "architectures": [whole]})
    network = build(config)
    stored = {f"{prefix}{key}": tensor for key, tensor in read_weights(folder).items()}
    for ours, tensor in network.state_dict().items():
        if HEAD_NAMES.fullmatch(ours):
            stored[translate(ours, whole)[0]] = tensor
    fill(network, stored, whole)
    processor = PROCESSORS[config.architecture.model_type]
    return Checkpoint(
        network=network.eval(),
        labels=config.labels,
        preprocessing=preprocessing_of(folder, processor),
        task=config.architecture.task,
        name=name_of(source),
    )
