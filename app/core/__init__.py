"""Settings, errors, and the state of the process."""
