"""From the contents of weight files to the tensors of a network, by the names of its library.

Training scripts save a state dict inside other tables, with a prefix before each name, or with
tensors that inference does not use. What is removed is logged; what is ambiguous is refused.
"""

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from models.checkpoint.parameter_names import join_names
from models.checkpoint.pickles import HOW_TO_SAVE
from models.errors import CheckpointError

logger = logging.getLogger(__name__)

TABLES = ("state_dict", "model_state_dict", "model")  # that hold the weights of one network
VERSIONS = re.compile(r"(.*_)?(ema|teacher|student|averaged)(_.*)?")  # keys of other versions
PREFIXES = (
    "module.",  # torch.nn.DataParallel, DistributedDataParallel, AveragedModel
    "_orig_mod.",  # torch.compile
    "model.",  # attributes of a LightningModule or another wrapper
    "net.",
)
LEFTOVERS = (  # tensors that no output depends on, with the reason
    (re.compile(r"(.*\.)?position_ids"), "the numbers 0, 1, 2, ... of the positions"),
    (re.compile(r"(.*\.)?mask_token"), "replaces masked patches in pre-training"),
    (
        re.compile(r"(.*\.)?(loss|loss_fct|loss_fn|criterion)\.(pos_)?weight"),
        "weights of the training loss",
    ),
    (re.compile(r"(.*\.)?(total_ops|total_params)"), "counters of the profiler thop"),
    (re.compile(r"n_averaged"), "counter of torch.optim.swa_utils.AveragedModel"),
)
ADAPTER = re.compile(r"base_model\.model\..*|.*\.lora_(A|B|embedding_A|embedding_B)\..*")
QUANTIZED = re.compile(  # bitsandbytes, GPTQ and AWQ
    r".*\.(SCB|weight_format|(nested_)?(absmax|quant_map)|quant_state(\..*)?|qweight|qzeros)"
)
MERGE = "a LoRA adapter: merge it first (merge_and_unload), and save the merged network"


def table_of(content: object, file: str) -> dict[str, Tensor]:
    """Return the tensors by name in the contents of a file, which may be a training checkpoint.

    Args:
        content: numbers, strings, tensors, and lists and dicts of them.
        file: its name, for messages.

    Raises:
        CheckpointError: there is no table of tensors, or several, or one of an unknown meaning.
    """
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} is not a state dict: {HOW_TO_SAVE}")
    names = [key for key, value in content.items() if isinstance(key, str) and holds(key, value)]
    if not names:
        return checked(content, file)
    if len(names) > 1 or names[0] not in TABLES:
        raise CheckpointError(
            f"{file} has tables of tensors under {join_names(names)}: "
            "save the one to serve in a file of its own"
        )
    logger.info("%s: the weights are read from its table %s", file, names[0])
    return content[names[0]]


def holds(key: str, value: object) -> bool:
    """Whether the entry of a file holds the weights of a network, or another version of them."""
    return isinstance(value, dict) and bool(value and (is_table(value) or VERSIONS.fullmatch(key)))


def is_table(value: object) -> bool:
    """Whether the value is a dict from names to tensors."""
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(each, Tensor) for key, each in value.items()
    )


def checked(content: dict[Any, Any], file: str) -> dict[str, Tensor]:
    """Return a dict of tensors. CheckpointError for other entries."""
    if is_table(content):
        return content
    others = [
        str(key)
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    raise CheckpointError(f"{file} has entries that are not tensors: {join_names(others)}")


def network_tensors(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the network, by the names that its library gives them.

    Removes LEFTOVERS, and PREFIXES that all names have.

    Raises:
        CheckpointError: this is an adapter, or the weights are quantized.
    """
    for key in stored:
        if ADAPTER.fullmatch(key):
            raise CheckpointError(f"the weights ({key}) are {MERGE}")
        if QUANTIZED.fullmatch(key):
            raise CheckpointError(f"quantized weights ({key}): save them unquantized")
    tensors = dict(stored)
    for pattern, reason in LEFTOVERS:
        if unused := [key for key in tensors if pattern.fullmatch(key)]:
            logger.info("%s: not used (%s)", join_names(unused, 3), reason)
            for key in unused:
                del tensors[key]
    return without_prefixes(tensors)


def without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove PREFIXES that all names have, also combined ones."""
    while tensors and (prefix := common_prefix(tensors)):
        logger.info("the prefix %s of all names of tensors is removed", prefix)
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def common_prefix(names: Collection[str]) -> str:
    """Return the one of PREFIXES that all names have, or the empty string."""
    return next((p for p in PREFIXES if all(name.startswith(p) for name in names)), "")


def refuse_quantization(document: Mapping[str, Any]) -> None:
    """Raise CheckpointError if config.json says that the weights are quantized."""
    if config := document.get("quantization_config"):
        method = config.get("quant_method") if isinstance(config, dict) else None
        kind = f" ({method})" if isinstance(method, str) else ""
        raise CheckpointError(
            f"config.json has a quantization_config: quantized weights{kind}: save them unquantized"
        )
