"""How far labels can be trusted: suspected label issues, and the consensus of several annotators."""
