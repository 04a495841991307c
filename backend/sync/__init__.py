"""The store is made equal to what Label Studio holds."""
