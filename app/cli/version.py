"""`patchserve --version`: it reads the metadata of packages, because importing torch is slow."""

from importlib.metadata import version
from platform import python_version


def version_line() -> str:
    """The versions of patchserve, torch and Python."""
    return (
        f"patchserve {version('patchserve')} (torch {version('torch')}, Python {python_version()})"
    )
