"""Embed each crop once: fetch, decode and encode it, in threads of the trainer or on a Ray cluster."""
