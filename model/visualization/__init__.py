"""The pool on a plane: a map of all crops."""
