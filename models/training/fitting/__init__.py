"""Fitting: any of the networks, from nothing or from a checkpoint, to anyone's labelled pictures.

Knows nothing of the service.
"""

from models.training.fitting.choices import network_named
from models.training.fitting.execution import fit, resume
from models.training.fitting.learner import Learner
from models.training.fitting.plan import Plan
from models.training.fitting.recipe import RECIPES, Recipe
from models.training.fitting.run import Interrupted
from models.training.fitting.watching import Display, Watcher

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
