"""How networks learn: the bundled ones from drawn scenes, and any of them from anyone's pictures.

Knows nothing of the service.
"""

from models.training.evaluation import Quality, evaluate
from models.training.fitting import (
    Display,
    Interrupted,
    Learner,
    Plan,
    fit,
    resume,
)
from models.training.pair import train_all
from models.training.run import train
from models.training.samples import write_scenes

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
