"""Install and run a Label Studio on this machine, and label in it."""
