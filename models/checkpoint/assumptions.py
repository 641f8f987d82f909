"""What is assumed about a checkpoint, because its files leave it open, and what to do about it."""

from collections.abc import Sequence

from models.checkpoint.config import Configuration
from models.preprocessing import Preprocessing


def assumptions(
    config: Configuration, preprocessing: Preprocessing, *, defaults: str, is_file: bool
) -> tuple[str, ...]:
    """What a user should know of the preprocessing of a checkpoint that loads; one sentence each.

    Args:
        config: of the checkpoint.
        preprocessing: of the checkpoint.
        defaults: whose defaults it is, if no file says what it is; else empty.
        is_file: whether the checkpoint is a file of weights, which has no file beside it.
    """
    result = []
    if defaults:
        remedy = (
            "save it as a folder (models.checkpoint.save) and correct its preprocessor_config.json"
            if is_file
            else "add the file that the training has used"
        )
        result.append(
            f"there is no preprocessor_config.json: the defaults of {defaults} are "
            "assumed, and results are wrong if the network was trained with other preprocessing; "
            f"{remedy}"
        )
    trained = getattr(config.sizes, "image_size", None)
    if trained is not None and preprocessing.input_size != trained:
        given = preprocessing.input_size
        images = (
            "images keep their size" if given is None else f"images become {given[1]} x {given[0]}"
        )
        result.append(
            f"{images}, but the network was trained for {trained[1]} x {trained[0]}, "
            "so its positions are resampled; set this size in preprocessor_config.json"
        )
    return tuple(result)


def refusal(name: str, warnings: Sequence[str]) -> str:
    """Return the message of a strict load that would assume something."""
    listed = " ".join(f"({number}) {text}." for number, text in enumerate(warnings, 1))
    return f"{name} leaves open what strict loading does not assume: {listed}"
