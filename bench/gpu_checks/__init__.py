"""Pieces of bench.gpu_session that no other benchmark measures: each prints its figures as JSON."""
