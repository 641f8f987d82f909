"""A learner: a network to be trained, and how wrong it is about a batch of scenes.

Does not know optimizers, steps or files.
"""

from math import prod

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, one_hot

from models.architectures import Task
from models.preprocessing import HALF, Preprocessing, normalize
from models.preprocessor_config import SEGFORMER, VIT
from models.segformer import Segformer, SegformerConfig
from models.training.pool import Batch
from models.training.scenes import LABELS, SIZE
from models.training.shapes import KINDS
from models.vit import ViT, ViTConfig

CLASSIFIER = ViTConfig(
    image_size=(SIZE // 2, SIZE // 2),
    patch_size=8,
    hidden_size=128,
    num_layers=4,
    num_heads=4,
    mlp_size=512,
    num_labels=len(KINDS),
)
SEGMENTER = SegformerConfig(
    depths=(1, 1, 3, 2),
    hidden_sizes=(16, 32, 64, 96),
    num_heads=(1, 1, 2, 3),
    decoder_hidden_size=64,
    num_labels=len(LABELS),
    classifier_dropout=0.0,
    drop_path=0.0,
)
CELLS = 2  # to each side of a patch, that the classifier is asked about while it trains


class ClassifierLearner(nn.Module):
    """A ViT that is asked which kind is largest, and meanwhile what each part of a patch shows.

    The second question teaches in minutes what the first alone would take hours for; the layer
    that answers it is left behind after the training.
    """

    labels = KINDS
    preprocessing = Preprocessing(VIT, size=CLASSIFIER.image_size)

    def __init__(self) -> None:
        super().__init__()
        self.network = ViT(CLASSIFIER)
        self.patch_head = nn.Linear(CLASSIFIER.hidden_size, CELLS * CELLS * len(LABELS))
        scale_to_width(self)

    def forward(self, batch: Batch, *, coarse: bool = False) -> Tensor:
        x = self.network.features(normalize(batch.images, self.preprocessing))  # (B, 1 + N, D)
        whole = cross_entropy(self.network.head(x[:, 0]), batch.largest)
        side = CLASSIFIER.grid[0]
        cells = self.patch_head(x[:, 1:])  # (B, N, CELLS * CELLS * K)
        cells = cells.unflatten(2, (CELLS, CELLS, -1)).unflatten(1, (side, side))
        cells = cells.permute(0, 5, 1, 3, 2, 4)  # (B, K, side, CELLS, side, CELLS)
        cells = cells.flatten(4, 5).flatten(2, 3)  # (B, K, side * CELLS, side * CELLS)
        return whole + cross_entropy(cells, label_shares(batch.label_maps, side * CELLS))


class SegmenterLearner(nn.Module):
    """A SegFormer that is asked for the label of each pixel."""

    labels = LABELS
    preprocessing = Preprocessing(SEGFORMER, size=(SIZE, SIZE), mean=HALF, std=HALF)

    def __init__(self) -> None:
        super().__init__()
        self.network = Segformer(SEGMENTER)
        scale_to_width(self)

    def forward(self, batch: Batch, *, coarse: bool = False) -> Tensor:
        """The loss; `coarse` looks at half the resolution, which takes a quarter of the time."""
        pixels = normalize(batch.images, self.preprocessing)  # (B, 3, H, W)
        if coarse:
            pixels = avg_pool2d(pixels, 2)  # (B, 3, H / 2, W / 2)
        side = pixels.shape[2]
        logits = interpolate(self.network(pixels), (side, side), mode="bilinear")  # (B, K, H, W)
        return cross_entropy(logits, label_shares(batch.label_maps, side))


def learner_for(task: Task) -> ClassifierLearner | SegmenterLearner:
    """An untrained learner of the task."""
    return ClassifierLearner() if task == "classify" else SegmenterLearner()


def label_shares(label_maps: Tensor, cells: int) -> Tensor:
    """What part of each cell a label covers: (B, H, W) -> (B, K, cells, cells)."""
    side = label_maps.shape[1] // cells
    hot = one_hot(label_maps.long(), len(LABELS)).float()  # (B, H, W, K)
    hot = hot.unflatten(2, (cells, side)).unflatten(1, (cells, side))
    return hot.mean((2, 4)).permute(0, 3, 1, 2)


def scale_to_width(learner: nn.Module) -> None:
    """Begin with weights that keep a signal's size: the papers' deviation of 0.02 is for wide ones.

    The heads begin near zero: at first no answer is likelier than another.
    """
    for name, module in learner.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            head = name.endswith("head")
            std = 0.01 if head else prod(module.weight.shape[1:]) ** -0.5
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
