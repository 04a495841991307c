"""Run rounds: decide each crop's label, train, choose what is labelled next, accept in bulk."""
