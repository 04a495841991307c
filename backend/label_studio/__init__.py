"""Read from Label Studio and write to it: client, labeling configs, request bodies, the queue of a round."""
