"""Generate pages of docs/ from the program."""
