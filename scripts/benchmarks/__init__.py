"""Measure speed, memory and learning."""
