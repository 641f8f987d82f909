"""What the benchmarks share: the service as a process, checkpoints, CPU time, the machine."""
