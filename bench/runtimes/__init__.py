"""The ways to run a network, and the race between them."""
