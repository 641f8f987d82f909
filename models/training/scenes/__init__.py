"""Generated scenes with their labels and masks."""
