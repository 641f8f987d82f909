"""Image files to pixels, and results to pictures."""
