"""Crops become rows of numbers, each of them once."""
