"""Embed crops, each once: fetched, decoded and encoded in threads of the trainer or on a Ray cluster."""
