"""The parts of the service benchmarks: servers, load generator, summaries, tables and plots."""
