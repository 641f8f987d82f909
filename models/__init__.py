"""The networks and their checkpoints.

Knows nothing of the service.
"""
