"""Parts of `caption.py`: flags, BLIP-2, and captions on the disk."""
