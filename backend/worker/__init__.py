"""Work in the background: the trainer process, its jobs, backoff after failures, drawing maps."""
