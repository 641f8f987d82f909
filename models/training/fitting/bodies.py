"""Checkpoints to begin from: whole ones, and bodies without a head, which only training can use.

Does not know what is trained.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from models import checkpoint, configuration
from models.checkpoint import Checkpoint
from models.dialects import HEAD_NAMES, translate
from models.documents import read_document
from models.weights import read_weights

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
    folder = checkpoint.folder_of(source)
    document = read_document(folder / "config.json")
    names = document.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str) or name not in BODIES:
        return checkpoint.load(source)
    whole, prefix = BODIES[name]
    config = configuration.parse({**document, "architectures": [whole]})
    network = checkpoint.build(config)
    stored = {f"{prefix}{key}": tensor for key, tensor in read_weights(folder).items()}
    for ours, tensor in network.state_dict().items():
        if HEAD_NAMES.fullmatch(ours):
            stored[translate(ours, whole)[0]] = tensor
    checkpoint.fill(network, stored, whole)
    processor = checkpoint.PROCESSORS[config.architecture.model_type]
    return Checkpoint(
        network=network.eval(),
        labels=config.labels,
        preprocessing=checkpoint.preprocessing_of(folder, processor),
        task=config.architecture.task,
        name=checkpoint.name_of(source),
    )
