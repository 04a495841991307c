"""Labels become a model, and the model a next batch."""
