"""Photos that cannot be read: what is done about them, and the error that names one, or what else cannot be."""

ON_BAD_PHOTO = ("stop", "skip")


class Unreadable(ValueError):
    """What of a corpus cannot be read, and whose it is. Out of a data loader's worker it comes with the same words."""

    def __init__(self, words: str = ""):
        # torch makes it anew in the process that waits for the batch, of the worker's whole traceback.
        if words.startswith(f"Caught {type(self).__name__} in "):
            words = words.partition(f"\n{type(self).__module__}.{type(self).__qualname__}: ")[2].strip() or words
        super().__init__(words)


class UnreadablePhoto(Unreadable):
    """A photo that cannot be read."""
