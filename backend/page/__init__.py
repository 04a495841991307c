"""The page: what a person sees of a project in a browser. It reads the store and writes thumbnails, no more."""
