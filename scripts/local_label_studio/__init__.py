"""A Label Studio on this machine: installed, started, labelled in."""
