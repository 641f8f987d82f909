"""The checkpoints of libraries other than transformers."""

from models.checkpoint.dialects.dialect import Dialect
from models.checkpoint.dialects.nvlabs_segformer import NVLABS_SEGFORMER
from models.checkpoint.dialects.smp_segformer import SMP_SEGFORMER
from models.checkpoint.dialects.timm_vit import TIMM_VIT
from models.checkpoint.dialects.torchvision_vit import TORCHVISION_VIT
from models.checkpoint.parameter_names import join_names
from models.checkpoint.stored import Stored
from models.errors import CheckpointError

__all__ = ["DIALECTS", "Dialect", "dialect_of"]

DIALECTS = (TIMM_VIT, TORCHVISION_VIT, SMP_SEGFORMER, NVLABS_SEGFORMER)


def dialect_of(stored: Stored) -> Dialect | None:
    """Return the dialect of a checkpoint, or None for a folder of transformers.

    Raises:
        CheckpointError: a single file, whose names of tensors are of no known library.
    """
    dialect = next((dialect for dialect in DIALECTS if dialect.recognizes(stored)), None)
    if dialect is None and stored.is_file:
        known = ", ".join(dialect.name for dialect in DIALECTS)
        names = join_names(sorted(stored.tensors), 5)
        raise CheckpointError(
            f"{stored.path.name} has tensors with unknown names: {names}; "
            f"known without a config.json: {known}; give the folder of any other checkpoint"
        )
    return dialect
