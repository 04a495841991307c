"""Work in the background: the trainer process, its jobs, claims on projects, drawing maps."""
