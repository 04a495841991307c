"""The HTTP server under the web side: it reads requests whole, within limits, before a thread sees them."""
