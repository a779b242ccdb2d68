"""Pictures to look at: the views a model will be shown, and the nearest neighbours it finds."""
