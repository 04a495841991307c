"""Replay labelling on data sets whose labels are known."""
