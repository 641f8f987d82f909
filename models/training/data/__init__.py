"""What can be learnt from: labelled pictures, pictures with masks, pets and generated scenes.

Knows nothing of networks or of how they learn.
"""

from models.training.data.augmentation import Augmentation
from models.training.data.examples import Batch, Data, Dataset, Example
from models.training.data.loader import Feed
from models.training.data.sources import open_data

__all__ = ["Augmentation", "Batch", "Data", "Dataset", "Example", "Feed", "open_data"]
