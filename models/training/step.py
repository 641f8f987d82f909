"""The training step: a learner, its optimizer, and the moving average of its weights."""

from math import cos, inf, pi
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.registry import Network

Batch = TypeVar("Batch")


class Loop(Generic[Batch]):
    """All state that changes during training; `state` returns it.

    Args:
        learner: maps a batch to its loss, a scalar; has an attribute `network`.
        optimizer: of the learner's parameters, with the highest learning rates.
        averaging: the decay per step of the moving average of the network's weights; 0 for none.
        max_grad_norm: the norm at which gradients are clipped.
    """

    def __init__(
        self,
        learner: nn.Module,
        optimizer: Optimizer,
        *,
        averaging: float = 0.0,
        max_grad_norm: float = inf,
    ) -> None:
        self.learner, self.optimizer = learner, optimizer
        self.max_grad_norm = max_grad_norm
        self.highest_rates = [group["lr"] for group in optimizer.param_groups]
        self.average: AveragedModel | None = None
        if averaging:
            self.average = AveragedModel(
                cast(nn.Module, learner.network),
                multi_avg_fn=get_ema_multi_avg_fn(averaging),
                use_buffers=True,
            )

    def step(self, batch: Batch, rate_factor: float = 1.0) -> float:
        """Train on one batch and return its loss; `rate_factor` scales the learning rates."""
        self.learner.train()
        for group, rate in zip(self.optimizer.param_groups, self.highest_rates, strict=True):
            group["lr"] = rate * rate_factor
        loss: Tensor = self.learner(batch)
        self.optimizer.zero_grad()
        loss.backward()
        if self.max_grad_norm < inf:
            nn.utils.clip_grad_norm_(self.learner.parameters(), self.max_grad_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(cast(nn.Module, self.learner.network))
        return loss.item()

    def result(self) -> Network:
        """Return the network, with the average of its weights if there is one, in eval mode.

        Later steps change the returned network.
        """
        network = self.learner.network if self.average is None else self.average.module
        return cast(Network, cast(nn.Module, network).eval())

    def state(self) -> dict[str, Any]:
        """Return the weights, the optimizer's state, the average, and torch's random state."""
        return {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state` was taken, in a loop with the same arguments."""
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"].cpu())
        torch.cuda.set_rng_state_all([device.cpu() for device in state["random_cuda"]])


def cosine_factor(progress: float, warm_up: float) -> float:
    """Return the fraction of the highest learning rate: a linear rise, then half a cosine.

    Args:
        progress: the fraction of the training that is done.
        warm_up: the fraction of the training in which the rate rises.
    """
    if progress < warm_up:
        return progress / warm_up
    return (1 + cos(pi * (progress - warm_up) / (1 - warm_up))) / 2


def decaying(module: nn.Module) -> set[Tensor]:
    """Return the parameters with weight decay: matrices; no biases, norms, tokens, positions."""
    return {part.weight for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)}
