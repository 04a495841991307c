"""Read the picture of a crop: from Label Studio, the web or task data, decoded within limits."""
