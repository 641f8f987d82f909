"""A learner: any of the networks, and how wrong it is about a batch.

Does not know optimizers, steps or files.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from models.architectures import Network
from models.preprocessing import Preprocessing, normalize
from models.training.data.examples import IGNORED, Batch
from models.vit import ViT


class Learner(nn.Module):
    """`forward(batch)` is the mean cross-entropy of the network's answers, a scalar.

    A segmenter's logits are resized to the label maps, whose 255 do not count. Of a network with a
    distillation head both heads learn the labels, each by itself, as DeiT's do from a teacher that
    is always right (arXiv:2012.12877, section 4).
    """

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing

    def forward(self, batch: Batch) -> Tensor:
        pixels = normalize(batch.images, self.preprocessing)  # (B, 3, H, W)
        if isinstance(self.network, ViT) and self.network.config.distillation_head:
            x = self.network.features(pixels)  # (B, 2 + N, D)
            whole = cross_entropy(self.network.head(x[:, 0]), batch.truth)
            return (whole + cross_entropy(self.network.distillation_head(x[:, 1]), batch.truth)) / 2
        logits = self.network(pixels)  # (B, K) or (B, K, h, w)
        if logits.ndim == 2:
            return cross_entropy(logits, batch.truth)
        size = batch.truth.shape[1:]
        logits = interpolate(logits, size, mode="bilinear", align_corners=False)  # (B, K, H, W)
        return cross_entropy(logits, batch.truth.long(), ignore_index=IGNORED)
