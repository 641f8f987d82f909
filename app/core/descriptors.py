"""Owns how many files, and so connections, the process may have open.

Knows nothing of what opens them.
"""

import logging
import resource

logger = logging.getLogger(__name__)


def allow_files(count: int) -> None:
    """Raise the process's limit to so many open files, as far as the system lets it.

    Shells and service managers give 1024 for the sake of programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < count:
        logger.warning("only %d files may be open at once, %d are wanted", wanted, count)
