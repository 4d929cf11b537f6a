"""One loop for every method: distil, evaluate, checkpoint, save."""
