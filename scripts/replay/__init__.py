"""Labelled data sets, labelled again by an annotator who is simulated."""
