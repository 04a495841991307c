"""The commands of `everylabel`, one a file."""
