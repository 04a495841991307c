"""What is read from Label Studio and written to it."""
