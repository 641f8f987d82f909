"""Names and array types that all layers share: tasks, methods, image formats, the label map."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["classify", "segment"]
Method = Literal["gradient", "rollout"]  # of an explanation
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
LabelMap = NDArray[np.uint8] | NDArray[np.uint16]  # (H, W), the class index of each pixel

DEFAULT_IMAGE_FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff")
IMAGE_FORMATS = (*DEFAULT_IMAGE_FORMATS, "avif", "heic")
IMAGE_SUFFIXES = frozenset(  # of files in a folder that are taken for images
    (
        *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png"),
        *(".tif", ".tiff", ".webp"),
    )
)
