"""Runtimes of a network: the optimized form in torch, or OpenVINO."""
