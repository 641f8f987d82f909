"""Fitting: any of the networks, from nothing or from a checkpoint, to anyone's labelled pictures.

Knows nothing of the service.
"""

from models.training.fitting.fit import fit, resume
from models.training.fitting.networks import network_named
from models.training.fitting.objective import Learner
from models.training.fitting.plan import Plan
from models.training.fitting.progress import Display, Watcher
from models.training.fitting.recipe import RECIPES, Recipe
from models.training.fitting.trainer import Interrupted

__all__ = [
    "RECIPES",
    "Display",
    "Interrupted",
    "Learner",
    "Plan",
    "Recipe",
    "Watcher",
    "fit",
    "network_named",
    "resume",
]
