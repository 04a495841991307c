"""Projects whose crops are regions of larger pictures."""
