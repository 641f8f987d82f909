"""Exponential moving averages."""


class MovingAverage:
    """Exponential moving average of samples.

    Args:
        value: where it starts.
        weight: share of each new sample; the last 2 / `weight` samples have most of the influence.

    Attributes:
        value: the current average.
    """

    def __init__(self, value: float, weight: float) -> None:
        self.value = value
        self._weight = weight

    def add(self, sample: float) -> None:
        """Move the average towards a new sample."""
        self.value += self._weight * (sample - self.value)
