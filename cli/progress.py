"""Progress bars in a log: a line now and then, where a terminal's line is drawn anew many times a second.

Imports neither torch nor transformers.
"""

import sys
import time
from functools import cache, partialmethod
from typing import Any

from tqdm.std import tqdm

SECONDS = 30.0  # from one line to the next


class ProgressLines:
    """The file that tqdm draws to in the place of stderr: of all bars together it has a line in so many seconds."""

    def __init__(self, seconds: float):
        self.seconds, self.written = seconds, time.monotonic()

    @property
    def encoding(self) -> str:
        return sys.stderr.encoding

    def isatty(self) -> bool:
        return False

    def write(self, drawn: str) -> None:
        line, now = drawn.strip(), time.monotonic()  # moves of the cursor are nothing but blanks and escapes
        if drawn.startswith("\r") and line and now - self.written >= self.seconds:
            self.written = now
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


@cache
def log_progress(seconds: float = SECONDS) -> None:
    """Has every bar of this process, those of libraries too, write lines from now on if stderr is no terminal.

    A bar that ends sooner writes none.
    """
    bars: Any = tqdm  # whose stub takes no other constructor
    if not sys.stderr.isatty():
        bars.__init__ = partialmethod(tqdm.__init__, file=ProgressLines(seconds))
