"""The kinds of shapes in a scene, each as a signed distance to its outline.

Each function takes local coordinates x and y and returns a value that is negative inside the shape.
All kinds have the area of the unit circle, so that the size does not reveal the kind.
"""

from collections.abc import Callable, Mapping
from math import cos, hypot, pi, sin, sqrt
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Plane: TypeAlias = NDArray[np.floating]  # one value per pixel, (H, W)


def circle(x: Plane, y: Plane) -> Plane:
    """Return the distance to a circle of radius 1."""
    return np.hypot(x, y) - 1


def square(x: Plane, y: Plane) -> Plane:
    """Return the distance to a square with sides parallel to the axes."""
    return np.maximum(np.abs(x), np.abs(y)) - sqrt(pi) / 2


def triangle(x: Plane, y: Plane) -> Plane:
    """Return the distance to a triangle with three equal sides."""
    inradius = sqrt(pi / (3 * sqrt(3)))
    return np.maximum(-y, sqrt(3) / 2 * np.abs(x) + y / 2) - inradius


def star(x: Plane, y: Plane) -> Plane:
    """Return the distance to a star with five points."""
    notch = 0.42  # radius of the notches as a fraction of the radius of the tips
    tip = sqrt(pi / (5 * notch * sin(pi / 5)))
    # fold the plane onto half of one point: the tip at angle 0, the notch at pi / 5
    radius = np.hypot(x, y)
    angle = np.abs(np.mod(np.arctan2(y, x), 2 * pi / 5) - pi / 5)
    along_x, along_y = tip * (notch * cos(pi / 5) - 1), tip * notch * sin(pi / 5)
    outward_x, outward_y = along_y / hypot(along_x, along_y), -along_x / hypot(along_x, along_y)
    return radius * (np.cos(angle) * outward_x + np.sin(angle) * outward_y) - tip * outward_x


def ring(x: Plane, y: Plane) -> Plane:
    """Return the distance to a disc with a round hole."""
    hole = 0.55  # radius of the hole as a fraction of the outer radius
    outer = 1 / sqrt(1 - hole**2)
    return np.abs(np.hypot(x, y) - outer * (1 + hole) / 2) - outer * (1 - hole) / 2


def cross(x: Plane, y: Plane) -> Plane:
    """Return the distance to two bars at a right angle, as a plus sign."""
    breadth = 0.35  # of an arm as a fraction of its length
    arm = sqrt(pi / (4 * breadth * (2 - breadth)))
    far, near = np.maximum(np.abs(x), np.abs(y)), np.minimum(np.abs(x), np.abs(y))
    return np.maximum(far - arm, near - breadth * arm)


SHAPES: Mapping[str, Callable[[Plane, Plane], Plane]] = MappingProxyType(
    {
        "circle": circle,
        "square": square,
        "triangle": triangle,
        "star": star,
        "ring": ring,
        "cross": cross,
    }
)
KINDS = tuple(SHAPES)  # the classifier's labels, in the order of its classes
