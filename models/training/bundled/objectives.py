"""A learner: a network to be trained, and how wrong it is about a batch of scenes.

Does not know optimizers, steps or files.
"""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate

from models.checkpoint.preprocessor_config import SEGFORMER, VIT
from models.layers.attention import Attention
from models.preprocessing import HALF, Preprocessing, normalize
from models.registry import Task
from models.segformer import Segformer, SegformerConfig
from models.training.bundled.batches import Batch
from models.training.scenes.scene import LABELS, SIZE
from models.training.scenes.shapes import KINDS
from models.vit import ViT, ViTConfig

CLASSIFIER = ViTConfig(
    image_size=(48, 48),
    patch_size=6,
    hidden_size=128,
    num_layers=4,
    num_heads=4,
    mlp_size=512,
    num_labels=len(KINDS),
)
SEGMENTER = SegformerConfig(
    depths=(1, 2, 4, 2),
    hidden_sizes=(16, 32, 64, 96),
    num_heads=(1, 1, 2, 3),
    sr_ratios=(4, 2, 1, 1),  # at every stage the keys are a grid of 8 x 8, or all there are
    decoder_hidden_size=64,
    num_labels=len(LABELS),
    classifier_dropout=0.0,
    drop_path=0.0,
)
SPOTS = 2  # to each side of a patch, that the classifier is asked about while it trains


class ClassifierLearner(nn.Module):
    """A ViT that is asked which kind is largest, and meanwhile what is where in each patch.

    The second question teaches in minutes what the first alone would take hours for; the layer
    that answers it is left behind after the training.
    """

    labels = KINDS
    preprocessing = Preprocessing(VIT, size=CLASSIFIER.image_size)

    def __init__(self) -> None:
        super().__init__()
        self.network = ViT(CLASSIFIER)
        self.patch_head = nn.Linear(CLASSIFIER.hidden_size, SPOTS * SPOTS * len(LABELS))
        scale_to_width(self)
        look_around(self.network)

    def forward(self, batch: Batch) -> Tensor:
        x = self.network.features(normalize(batch.images, self.preprocessing))  # (B, 1 + N, D)
        whole = cross_entropy(self.network.head(x[:, 0]), batch.largest)
        rows, columns = CLASSIFIER.grid
        said = self.patch_head(x[:, 1:])  # (B, N, SPOTS * SPOTS * K)
        said = said.unflatten(2, (SPOTS, SPOTS, -1)).unflatten(1, (rows, columns))
        said = said.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, K, spots, spots)
        step = SIZE // (rows * SPOTS)
        spots = batch.label_maps[:, step // 2 :: step, step // 2 :: step]  # (B, spots, spots)
        return whole + cross_entropy(said, spots.long())


class SegmenterLearner(nn.Module):
    """A SegFormer that is asked how much of each 2 x 2 pixels each label covers."""

    labels = LABELS
    preprocessing = Preprocessing(SEGFORMER, size=(SIZE, SIZE), mean=HALF, std=HALF)

    def __init__(self) -> None:
        super().__init__()
        self.network = Segformer(SEGMENTER)
        scale_to_width(self)

    def forward(self, batch: Batch) -> Tensor:
        logits = self.network(normalize(batch.images, self.preprocessing))  # (B, K, H / 4, W / 4)
        half = SIZE // 2  # which places an outline as well as full size does, in less time
        logits = interpolate(logits, (half, half), mode="bilinear")  # (B, K, H / 2, W / 2)
        return cross_entropy(logits, label_shares(batch.label_maps, half))


def learner_for(task: Task) -> ClassifierLearner | SegmenterLearner:
    """An untrained learner of the task."""
    return ClassifierLearner() if task == "classify" else SegmenterLearner()


def label_shares(label_maps: Tensor, cells: int) -> Tensor:
    """What part of each cell a label covers: (B, H, W) -> (B, K, cells, cells)."""
    each = [(label_maps == label).float() for label in range(len(LABELS))]  # K x (B, H, W)
    return avg_pool2d(torch.stack(each, dim=1), label_maps.shape[1] // cells)


def scale_to_width(learner: nn.Module) -> None:
    """Begin with weights that keep a signal's size: the papers' deviation of 0.02 is for wide ones.

    The heads begin near zero: at first no answer is likelier than another.
    """
    for name, module in learner.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            head = name.endswith("head")
            std = 0.01 if head else prod(module.weight.shape[1:]) ** -0.5
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)


def look_around(network: ViT) -> None:
    """Begin with tokens that know their place and heed those around them.

    A ViT this small spends most of a short training on finding out what is next to what. So its
    positions, learned all the same, begin as sines of row and column, and its keys as its queries,
    so that like tokens heed each other (mimetic initialization, arXiv:2305.09828).
    """
    D, (rows, columns) = network.config.hidden_size, network.config.grid
    pace = 1.2 * 10 ** -torch.linspace(0, 1, D // 4)  # radians a patch
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = torch.cat([x.reshape(-1, 1) * pace, y.reshape(-1, 1) * pace], dim=1)  # (N, D / 2)
    with torch.no_grad():
        network.positions[0, network.config.num_prefix_tokens :] = torch.cat(
            [angles.sin(), angles.cos()], dim=1
        )  # (N, D)
        for attention in network.modules():
            if isinstance(attention, Attention):
                nn.init.orthogonal_(attention.query.weight, gain=0.8)
                attention.key.weight.copy_(attention.query.weight)
