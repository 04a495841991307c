"""Serve the page of a project: figures, galleries, the map. It only reads the store, and writes nothing but thumbnails."""
