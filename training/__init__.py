"""Parts of `train.py`: flags, data, objectives, guards, checkpoints, and the card of a run."""
