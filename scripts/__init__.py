"""The `everylabel` command: one workflow a file."""
