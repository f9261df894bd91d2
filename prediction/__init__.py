"""Parts of `predict.py`: flags, users from any input, batches, and predictions on the disk."""
