"""Read HTTP requests whole, within limits, before a thread of the application sees them."""
