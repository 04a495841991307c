"""Label many crops at a glance: choose the crops of a page, confirm them, and send the labels to Label Studio."""
