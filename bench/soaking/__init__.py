"""The parts of bench.soak: mixed valid and invalid requests over a long time."""
