"""Scenes that the project draws itself, and the training of the bundled checkpoints on them.

Knows nothing of the service.
"""

from models.training.evaluation import Quality, evaluate
from models.training.pair import train_all
from models.training.run import train
from models.training.samples import write_scenes

__all__ = ["Quality", "evaluate", "train", "train_all", "write_scenes"]
