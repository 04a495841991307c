"""The Label Studio side: protocol, store, rounds and publishing."""
