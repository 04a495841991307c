"""The Label Studio side: the ML-backend protocol, the store, rounds, and what is written to Label Studio."""
