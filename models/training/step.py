"""The training loop's one step: a learner, its optimizer, and the average of its weights.

Does not know what is learnt, where batches come from, or how the result is stored.
"""

from math import cos, inf, pi
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.registry import Network

Batch = TypeVar("Batch")


class Loop(Generic[Batch]):
    """All that changes while a learner learns; `state` holds it whole.

    The learner is a module that maps a batch to its loss, a scalar, and has a `network`. With
    `averaging`, what a moving average keeps of itself per step, the result is that average of the
    network's weights. Gradients longer than `largest_gradient` are shortened to it.
    """

    def __init__(
        self,
        learner: nn.Module,
        optimizer: Optimizer,
        *,
        averaging: float = 0.0,
        largest_gradient: float = inf,
    ) -> None:
        self.learner, self.optimizer = learner, optimizer
        self.largest_gradient = largest_gradient
        self.heights = [group["lr"] for group in optimizer.param_groups]
        self.average: AveragedModel | None = None
        if averaging:
            self.average = AveragedModel(
                cast(nn.Module, learner.network),
                multi_avg_fn=get_ema_multi_avg_fn(averaging),
                use_buffers=True,
            )

    def step(self, batch: Batch, pace: float = 1.0) -> float:
        """Learn from one batch, at learning rates in parts of their height; returns its loss."""
        self.learner.train()
        for group, height in zip(self.optimizer.param_groups, self.heights, strict=True):
            group["lr"] = height * pace
        loss: Tensor = self.learner(batch)
        self.optimizer.zero_grad()
        loss.backward()
        if self.largest_gradient < inf:
            nn.utils.clip_grad_norm_(self.learner.parameters(), self.largest_gradient)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(cast(nn.Module, self.learner.network))
        return loss.item()

    def result(self) -> Network:
        """The network as it is now, or the average of its last weights, in eval mode.

        It goes on changing with each step.
        """
        network = self.learner.network if self.average is None else self.average.module
        return cast(Network, cast(nn.Module, network).eval())

    def state(self) -> dict[str, Any]:
        """Weights, the optimizer's memory, the average, and torch's random numbers to come."""
        return {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state` was taken, by a loop that was built alike."""
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"].cpu())
        torch.cuda.set_rng_state_all([one.cpu() for one in state["random_cuda"]])


def pace(progress: float, warm_up: float) -> float:
    """The learning rate in parts of its height: up in a line, down in half a cosine."""
    if progress < warm_up:
        return progress / warm_up
    return (1 + cos(pi * (progress - warm_up) / (1 - warm_up))) / 2


def decaying(module: nn.Module) -> set[Tensor]:
    """The parameters that weight decay is for: matrices; not biases, norms, tokens, positions."""
    return {part.weight for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)}
