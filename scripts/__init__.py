"""The `everylabel` command, and the programs that measure, replay and document."""
