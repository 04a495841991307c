"""The learning core: arrays, tensors and labels in; what to label next out."""
