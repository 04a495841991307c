"""Programs that measure speed, memory and learning."""
