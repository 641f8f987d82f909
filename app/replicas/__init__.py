"""Several processes that serve one port, and the supervisor that keeps them running."""
