"""A Label Studio of our own: installed, started, labelled in."""
