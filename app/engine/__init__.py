"""A network on a device."""
