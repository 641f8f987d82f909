"""Parts of the race between the ways to run a network."""
