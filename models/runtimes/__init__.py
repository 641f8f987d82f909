"""Ways to run a network: the plain one, its optimized form in torch, or OpenVINO."""
