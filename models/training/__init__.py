"""How networks learn: the bundled ones from drawn scenes, and any of them from anyone's pictures.

Knows nothing of the service.
"""

from models.training.bundled.evaluate import Quality, evaluate
from models.training.bundled.train import train
from models.training.bundled.train_all import train_all
from models.training.fitting import (
    Display,
    Interrupted,
    Learner,
    Plan,
    fit,
    resume,
)
from models.training.scenes.samples import write_scenes

__all__ = [
    "Display",
    "Interrupted",
    "Learner",
    "Plan",
    "Quality",
    "evaluate",
    "fit",
    "resume",
    "train",
    "train_all",
    "write_scenes",
]
