"""Export what is labelled as a data set: crops, a manifest of who said what, and the blind check crops as its test set."""
