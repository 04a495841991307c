"""The background process: its jobs, their order, and its maps."""
