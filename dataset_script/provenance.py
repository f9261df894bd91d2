"""Where raw files come from: `synthesize.py` leaves a file beside those that it writes, which fits no others.

What is not known to be synthetic is taken for people's own texts and photos. The file holds digests, because the real
Yelp's files have the same names, and may be unpacked over the synthetic ones.
"""

import json
from collections.abc import Iterable, Mapping
from hashlib import file_digest
from pathlib import Path

from .raw_files import RawFolder

MARKER = "synthetic.json"


def mark_synthetic(folder: Path, files: Iterable[Path], arguments: Mapping[str, int]) -> None:
    """Says in `folder` that `files` are synthetic, and by which arguments of the program they come again."""
    content = {"arguments": dict(arguments), "sha256": {path.name: _digest(path) for path in files}}
    (folder / MARKER).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def synthetic_arguments(raw: RawFolder) -> dict[str, int] | None:
    """The arguments that the synthetic files were written with; None for files that are not known to be synthetic."""
    try:
        content = json.loads((raw.root / MARKER).read_text(encoding="utf-8"))
        arguments = {name: int(value) for name, value in content["arguments"].items()}
        digests = dict(content["sha256"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    files = (raw.business, raw.review, raw.photos)
    return arguments if all(digests.get(path.name) == _digest(path) for path in files) else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
