"""Crops' pictures: fetched, decoded within limits, and cut."""
