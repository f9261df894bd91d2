"""Why a run ends before its time."""


class TrainingFailure(Exception):
    """A run that cannot go on, and what may help."""


class TrainingStopped(Exception):
    """A signal asked for the end of the run."""


class OtherProcessFailed(Exception):
    """Another process says why the run ends."""
