"""Labelled data sets, replayed with a simulated annotator."""
