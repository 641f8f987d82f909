"""Measurements of the project; each module with RESULTS is a benchmark and writes to that file."""
