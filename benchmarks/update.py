"""What keeping predictions up to date costs: predict.py on all users, and --update when some of them changed.

    python benchmarks/update.py --output update.json
    python benchmarks/update.py --size base --users 200 --changed 2 --output update.json

Users of a JSONL file have some reviews with a photo each, which are read in views (`--views all`); who changed has one
review more. The weights are random. Seconds are of whole runs within one process; what a run takes whatever the number
of users, loading the model, is measured by itself and is not in the ratio. Where others are at work on the machine,
`cpu_seconds` tell more: of all processes and threads of a run.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import update_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    update_parser(__doc__).parse_known_args()

import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import predict
from benchmarks.inference import machine, random_photo, random_texts, save_random_model, versions
from benchmarks.machine import tell
from files.checkpoint_code import load_model, load_processor


def random_reviews(count: int, words: int, folder: Path, rng: random.Random) -> list[dict]:
    reviews = []
    for text in random_texts(count, words, rng):
        name = f"{rng.randbytes(8).hex()}.jpg"
        (folder / name).write_bytes(random_photo(rng))
        reviews.append({"text": text, "images": [name]})
    return reviews


def write_users(path: Path, users: dict[str, list[dict]]) -> None:
    lines = [json.dumps({"user_id": name, "reviews": reviews}) for name, reviews in users.items()]
    path.write_text("\n".join(lines))


def clocks() -> dict[str, float]:
    return {"seconds": time.perf_counter(), "cpu_seconds": sum(os.times()[:4])}


def timed(call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    started = clocks()
    result = call()
    return {name: now - started[name] for name, now in clocks().items()}, result


def run(flags: dict) -> dict:
    return predict.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])


def load(model: str) -> None:
    load_processor(model, None, False)
    load_model(model, None, False, torch.float32)


def main(argv: list[str] | None = None) -> dict:
    """Measures, writes the JSON file and returns what is in it."""
    arguments, rng = update_parser(__doc__).parse_args(argv), random.Random(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as work:
        folder, model = Path(work), str(Path(work) / "model")
        save_random_model(Path(model), arguments.size, arguments.text_tokens, rng, device)
        users = {
            f"u{number}": random_reviews(arguments.reviews, arguments.words, folder, rng)
            for number in range(arguments.users)
        }
        write_users(folder / "users.jsonl", users)
        flags = {"model": model, "dataset": folder / "users.jsonl", "output": folder / "out", "views": "all"}
        flags |= {"update": "true", "batch_size": arguments.batch_size}
        spent = {}
        spent["loading_in_each"], _ = timed(partial(load, model))
        spent["whole"], first = timed(partial(run, flags))
        spent["update_of_nothing"], _ = timed(partial(run, flags))
        for name in rng.sample(sorted(users), arguments.changed):
            users[name] = random_reviews(1, arguments.words, folder, rng) + users[name]
        write_users(folder / "users.jsonl", users)
        spent["update"], second = timed(partial(run, flags))
    assert (first["users_this_time"], second["users_this_time"]) == (arguments.users, arguments.changed)
    parts = {clock: {name: its[clock] for name, its in spent.items()} for clock in ("seconds", "cpu_seconds")}
    figures = {
        f"ratio_of_{clock}": (its["update"] - its["loading_in_each"]) / (its["whole"] - its["loading_in_each"])
        for clock, its in parts.items()
    }
    figures |= parts | {
        "predicting_seconds": {"whole": first["seconds"], "update": second["seconds"]},
        "users": arguments.users,
        "changed": arguments.changed,
        "reviews": arguments.reviews,
        "size": arguments.size,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "machine": machine(),
        "versions": versions(),
    }
    tell(figures, arguments.output)
    return figures


if __name__ == "__main__":
    main()
