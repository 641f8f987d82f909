"""HTTP as sockets see it: connections, limits, timeouts, shutdown."""
