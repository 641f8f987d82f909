"""Queue, batches and served models."""
