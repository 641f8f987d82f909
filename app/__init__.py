"""The service: HTTP edge, queue and device behind it."""
