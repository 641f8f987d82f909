"""The quality of any checkpoint on a user's own images."""
