"""What is trained on the labels: the contract, heads on embeddings, and torch modules."""
