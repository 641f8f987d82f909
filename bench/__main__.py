"""Runs the benchmarks: `python -m bench [NAME...]`, all of them unless named.

A module of this folder takes part when it says where it keeps its figures, RESULTS.
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
