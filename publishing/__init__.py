"""The Hub: the folder that is ready for it, what pushes to it, and what it answers."""
