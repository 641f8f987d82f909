"""Owns the commands: what each flag means, and what is printed.

Knows nothing of how any of it is done; a command calls and tells.
"""
