"""Serve the page of a project: figures, galleries, the map. Only the routes to label by write to the store."""
