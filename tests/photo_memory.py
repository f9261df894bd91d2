"""What memory the handler takes for large and hostile photos, in a process that has done nothing else.

    python -m tests.photo_memory FOLDER

Writes the tiny model into FOLDER, and prints as JSON: photo -> MB at most and the answer, one by one; and for all of
the large ones twice from 16 clients at once the MB at most, those kept, and how many answers have a profile.
"""

import base64
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.photo_bombs import hostile, large
from tests.served_model import served

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def megabytes(field: str) -> float:
    """What the system says of this process' memory; 0 where it says nothing."""
    lines = STATUS.read_text().splitlines() if CLEAR_REFS.exists() else []
    return sum(int(line.split()[1]) / 1000 for line in lines if line.startswith(field + ":"))


def begin() -> float:
    """The peak begins anew; what there is now."""
    CLEAR_REFS.write_text("5")
    return megabytes("VmRSS")


def measure(handler, content: bytes) -> tuple[float, str]:
    before = begin()
    try:
        answer = handler({"inputs": {"reviews": ["good"], "images": [content]}})["text"]
    except ValueError as error:
        answer = str(error)
    return megabytes("VmHWM") - before, answer


def measure_together(handler, photos: list[str], clients: int = 16) -> dict:
    handler({"inputs": {"images": [photos[0]]}})
    before = begin()
    with ThreadPoolExecutor(clients) as threads:
        answers = list(threads.map(lambda content: handler({"inputs": {"images": [content]}}), photos * 2))
    most, kept = megabytes("VmHWM") - before, megabytes("VmRSS") - before
    return {"most": most, "kept": kept, "photos": len(photos), "answered": sum("profile" in one for one in answers)}


def main(folder: str) -> None:
    handler = served(Path(folder))
    found = {
        kind: {name: measure(handler, content) for name, content in photos()}
        for kind, photos in (("large", large), ("hostile", hostile))
    }
    photos = [base64.b64encode(content).decode() for _, content in large()]
    print(json.dumps(found | {"together": measure_together(handler, photos)}))


if __name__ == "__main__":
    main(sys.argv[1])
