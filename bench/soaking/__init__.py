"""The parts of the soak: mixed good and bad traffic for a long time."""
