"""Make the store equal to Label Studio: from webhooks as they come, and by comparing."""
