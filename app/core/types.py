"""The names of tasks and methods, and the label map, as all layers know them."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["classify", "segment"]


Method = Literal["gradient", "rollout"]  # of an explanation


LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
