"""Make a project whose crops are the regions of larger pictures, and write their classes back."""
