"""Predict pictures with an exported model: find them, read them, and keep the results where a killed run is taken up again."""
