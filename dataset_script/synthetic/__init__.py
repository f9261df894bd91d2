"""Parts of `synthesize.py`: what its people say and what its photos show."""
