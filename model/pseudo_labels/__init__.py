"""Labels nobody gave, for training and to show: by confidence, or by the agreement of two rules."""
