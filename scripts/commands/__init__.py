"""The work of each command of `everylabel`, one a file."""
