"""How good the model is, how it will improve, and when to stop labelling."""
