"""What a program tells of its work, line by line, and how much of it."""

import logging
import sys

LOG_LEVELS = ("debug", "info", "warning", "error")
LIBRARIES = ("transformers", "datasets", "huggingface_hub", "accelerate", "torch", "training", "publishing", "scoring")

told = logging.getLogger("mmprofile")
told_anywhere = told.getChild("anywhere")  # in each process, of what that one alone has met


class _Lines(logging.Handler):
    """Writes each message as it is: to stdout, warnings and errors to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        print(record.getMessage(), file=stream, flush=True)


def set_log_level(level: str, here: bool = True) -> None:
    """Has a program tell what is at least of a level of `LOG_LEVELS`, and libraries likewise, of whom "info" is as
    good as "warning".

    Args:
        here: whether this is the process that tells; of others only errors are told, and what goes to
            `told_anywhere`.
    """
    told_anywhere.setLevel(level.upper())
    number = logging.getLevelName(level.upper()) if here else logging.ERROR
    told.setLevel(number)
    told.propagate = False
    if not told.handlers:
        told.addHandler(_Lines())
    libraries = logging.WARNING if number == logging.INFO else number
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(libraries)
