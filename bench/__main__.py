"""Runs benchmarks: `python -m bench [NAME...]`, all of them by default.

A module of this folder is a benchmark if it defines RESULTS, the file for its results.
"""

import pkgutil
import sys
from importlib import import_module

import bench

wanted = set(sys.argv[1:])
for name in sorted(module.name for module in pkgutil.iter_modules(bench.__path__)):
    if name == "__main__" or (wanted and name not in wanted):
        continue
    module = import_module(f"bench.{name}")
    if hasattr(module, "RESULTS"):
        module.main()
