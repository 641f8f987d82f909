"""Hooks of schemathesis: every body is a mutated image or random bytes."""

from hypothesis import strategies as st

from tests.hostile.contract.drawing import draw
from tests.hostile.mutants import mutant

draw(st.integers(0, 10**6).map(mutant) | st.binary())
