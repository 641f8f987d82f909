"""Training and evaluation: the bundled checkpoints on scenes, any network on a user's images."""

from models.training.bundled.evaluate import Quality, evaluate
from models.training.bundled.recipe import train
from models.training.bundled.train_all import train_all
from models.training.confusion import Confusion
from models.training.evaluation.evaluation import Evaluation, evaluate_data
from models.training.fitting.fit import fit, resume
from models.training.fitting.plan import Plan
from models.training.fitting.progress import Display
from models.training.fitting.trainer import Interrupted
from models.training.scenes.samples import write_scenes

__all__ = [
    "Confusion",
    "Display",
    "Evaluation",
    "Interrupted",
    "Plan",
    "Quality",
    "evaluate",
    "evaluate_data",
    "fit",
    "resume",
    "train",
    "train_all",
    "write_scenes",
]
