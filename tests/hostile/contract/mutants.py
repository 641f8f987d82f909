"""Hooks of schemathesis: every body was an image, or is any bytes."""

from hypothesis import strategies as st

from tests.hostile.contract.drawing import draw
from tests.hostile.mutants import mutant

draw(st.integers(0, 10**6).map(mutant) | st.binary())
