"""How long the corpus takes and what memory, from Yelp's size to four times it, beside the engine's bare scan.

    python benchmarks/build_corpus.py --output FILE
    python benchmarks/build_corpus.py --output FILE --reviews 30000000
    python benchmarks/build_corpus.py --output FILE --reviews 700000 --engine local[2]

Writes a raw folder (0.75 GB a million reviews; lengths of texts and activity of users as in Yelp's), then measures,
each step in a process of its own: the engine's scan of review.json, and whole builds of the configurations `default`
and `full`. FILE has, by engine and by number of reviews, what each step took: seconds, those of all cores, and the
peak memory of the process and of those that it starts; and the same of a build's stages, with what lies on disk beside
the raw files at the end of each. What FILE has of other runs stays.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import corpus_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    corpus_parser(__doc__).parse_known_args()

import io
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial, wraps
from operator import itemgetter
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from PIL import Image

from benchmarks.machine import cpu_name, tell
from dataset_script import corpus, corpus_draw, corpus_figures, mmprofile_yelp, photos
from dataset_script.engines import TEXT, connect, read_lines
from dataset_script.profile_rules import read_rules
from dataset_script.raw_files import find_raw_files
from dataset_script.sources import REVIEW_FIELDS

SCHEMA = Path(__file__).resolve().parent.parent / "dataset_script" / "yelp_schema.yaml"

# Of Yelp's Open Dataset: 6,990,280 reviews of 150,346 businesses by 1,987,897 users.
USERS_A_REVIEW, BUSINESSES_A_REVIEW = 0.2844, 0.0215
# A user in sixty wrote 30 reviews and more, together over a quarter of all.
ACTIVE_USERS, ACTIVE_SHARE = 0.017, 0.28
# A text has 105 words in the mean, 74 in the median.
LOG_WORDS, LOG_WORDS_SPREAD = 4.3, 0.84
BLOCK = 100_000


def write_raw(folder: Path, reviews: int, photos: int, photo_size: int) -> None:
    """Writes a raw folder with so many reviews, and so many photos of `photo_size` pixels a side; not those there."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    businesses = max(60, int(reviews * BUSINESSES_A_REVIEW))
    _write_businesses(folder / "yelp_business.json", businesses, rng)
    _write_photos(folder, photos, businesses, photo_size, rng)
    texts = _texts(rng)
    users, active = int(reviews * USERS_A_REVIEW), max(20, int(reviews * USERS_A_REVIEW * ACTIVE_USERS))
    with (folder / "yelp_review.json").open("w", encoding="utf-8", buffering=2**22) as file:
        for start in range(0, reviews, BLOCK):
            size = min(BLOCK, reviews - start)
            of_active = rng.random(size) < ACTIVE_SHARE
            user = np.where(of_active, active * rng.random(size) ** 1.3, active + (users - active) * rng.random(size))
            columns = (
                range(start, start + size),
                user.astype(int).tolist(),
                (businesses * rng.random(size) ** 2).astype(int).tolist(),
                rng.integers(1, 6, size).tolist(),
                rng.integers(0, len(texts), size).tolist(),
                np.datetime_as_string(rng.integers(1_100_000_000, 1_650_000_000, size).astype("datetime64[s]")),
            )
            file.writelines(
                f'{{"review_id":"R{n:021}","user_id":"U{user:021}","business_id":"B{business:021}","stars":{stars}.0,'
                f'"useful":0,"funny":0,"cool":0,"text":{texts[text]},"date":"{date[:10]} {date[11:]}"}}\n'
                for n, user, business, stars, text, date in zip(*columns, strict=True)
            )


def _texts(rng: np.random.Generator) -> list[str]:
    letters = np.array(list("etaoinshrdlucmfw"))
    words = ["".join(rng.choice(letters, max(1, int(rng.normal(4.3, 2))))) for _ in range(4000)]
    counts = rng.lognormal(LOG_WORDS, LOG_WORDS_SPREAD, 20_000).clip(1, 1000).astype(int)
    texts = []
    for count in counts:
        chosen = [words[n] for n in (len(words) * rng.random(count) ** 2).astype(int)]
        chosen[15::30] = [f"{word}.\n\n" for word in chosen[15::30]]
        texts.append(json.dumps(" ".join(chosen)))
    return texts


def _write_businesses(path: Path, count: int, rng: np.random.Generator) -> None:
    categories = [value for rule in read_rules(SCHEMA) if rule.kind == "top" for value in rule.values]
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            meals = {meal: bool(rng.integers(2)) for meal in ("dessert", "lunch", "dinner", "brunch")}
            attributes = {
                "GoodForMeal": str(meals),
                "RestaurantsPriceRange2": str(rng.integers(1, 5)),
                "HappyHour": str(bool(rng.integers(2))),
                "RestaurantsTakeOut": str(bool(rng.integers(2))),
                "Caters": "None",
            }
            chosen = ", ".join(["Restaurants", *rng.choice(categories, 2, replace=False)])
            line = {"business_id": f"B{n:021}", "name": f"Place {n}", "categories": chosen, "attributes": attributes}
            file.write(json.dumps(line | {"hours": None}) + "\n")


def _write_photos(folder: Path, count: int, businesses: int, size: int, rng: np.random.Generator) -> None:
    noise = Image.fromarray(rng.integers(0, 256, (size // 7 + 1, size // 7 + 1, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.resize((size, size), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    with (folder / "yelp_photos.json").open("w", encoding="utf-8") as file:
        for n in range(count):
            # One of the places that are reviewed most.
            line = {"photo_id": f"P{n:021}", "business_id": f"B{n % (businesses // 4 + 1):021}", "caption": ""}
            file.write(json.dumps(line | {"label": "food"}) + "\n")
            photo = folder / "photos" / f"P{n:021}.jpg"
            if not photo.exists():  # of another size's
                photo.write_bytes(buffer.getvalue())


# ---------------------------------------------------------------------------------------------------------------------
# Steps and their stages

# Who does what, by the stage that it is.
STAGES = {
    "photo lines": (corpus._Plan, "_photos"),
    "review lines": (corpus._Plan, "_histories"),
    "users with photos": (corpus._Plan, "_with_photos"),
    "businesses": (corpus._Plan, "_evidence"),
    "sums": (corpus._Plan, "_complete"),
    "quantiles": (corpus._Plan, "_cuts"),
    "draw": (corpus_draw.Draw, "draw"),
    "photos opened": (photos.Album, "prove"),
    "profiles": (corpus._Plan, "_profiles"),
    "rows": (corpus._Plan, "_rows"),
    "shards": (mmprofile_yelp, "write_split"),
    "figures": (corpus_figures, "write_figures"),
    "digests": (mmprofile_yelp, "_source"),
}
NO_DERIVATION = ("photos opened", "shards", "figures", "digests")


class Meter:
    """Wall and CPU seconds, peak memory and the disk in use at the end, of a whole and of its stages.

    A stage within another is none of the other's.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: of which the files are counted."""
        self.stages: dict[str, dict[str, float]] = {}
        self._folder, self._open = folder, ["rest"]
        self._begin()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.end()
        self._open.append(name)
        try:
            yield
        finally:
            self.end()
            self._open.pop()

    def _begin(self) -> None:
        for process in _processes():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak is what there is
        self._since = time.perf_counter(), _cpu_seconds()

    def end(self) -> None:
        """Of the stage that is open, which may go on."""
        seconds, cpu = self._since
        stage = self.stages.setdefault(self._open[-1], {"seconds": 0, "cpu_seconds": 0, "peak_gib": 0, "disk_gib": 0})
        stage["seconds"] += time.perf_counter() - seconds
        stage["cpu_seconds"] += _cpu_seconds() - cpu
        stage["peak_gib"] = max(stage["peak_gib"], _peak_gib())
        stage["disk_gib"] = max(stage["disk_gib"], _disk_gib(self._folder))
        self._begin()

    @property
    def whole(self) -> dict[str, float]:
        """Sums of seconds, and the largest peaks."""
        of = {name: [stage[name] for stage in self.stages.values()] for name in self.stages["rest"]}
        return {name: sum(values) if name.endswith("seconds") else max(values) for name, values in of.items()}


def _processes() -> list[psutil.Process]:
    process = psutil.Process()
    return [process, *process.children(recursive=True)]


def _cpu_seconds() -> float:
    return sum(sum(process.cpu_times()[:4]) for process in _processes())  # with children that have ended


def _peak_gib() -> float:
    """The most that the processes had, in memory of their own or of files; not all at one time, perhaps."""
    peaks = 0
    for process in _processes():
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        peaks += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peaks / 2**20


def _disk_gib(folder: Path) -> float:
    sizes = 0
    for place, _folders, names in os.walk(folder):
        sizes += sum(os.lstat(path).st_blocks * 512 for name in names if os.path.lexists(path := Path(place, name)))
    return sizes / 2**30


def measure(step: Callable[[Path, Meter], dict], raw: Path, folder: Path) -> dict:
    """Runs the step in a process of its own; what it took, and its own figures. It reads files from the disk."""
    for path in raw.glob("*.json"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, step, raw, folder).result()


def _measured(step: Callable[[Path, Meter], dict], raw: Path, folder: Path) -> dict:
    with redirect_stdout(sys.stderr):
        meter = Meter(folder)
        figures = step(raw, meter)
        meter.end()
    return meter.whole | figures


def scan(engine: str, raw: Path, meter: Meter) -> dict:
    """The engine reads every field that the derivation needs of every line, and keeps nothing."""
    with tempfile.TemporaryDirectory() as scratch, connect(engine, "2.5GB", 0, Path(scratch)) as backend:
        lines = read_lines(backend, find_raw_files(raw).review, dict.fromkeys(REVIEW_FIELDS, TEXT))
        most = lines.aggregate([lines[field].max().name(field) for field in REVIEW_FIELDS])
        with meter.stage("scan"):
            most.to_pyarrow()
    return meter.stages["scan"]


def build(engine: str, name: str, output: Path, raw: Path, meter: Meter) -> dict:
    """The whole build of a configuration, its shards written."""
    with ExitStack() as stack:
        for stage, (owner, method) in STAGES.items():
            stack.enter_context(patch.object(owner, method, _as_stage(meter, stage, getattr(owner, method))))
        built = mmprofile_yelp.build(raw, output, config=name, engine=engine)[name]
    photos_there = len(built.album.usable)
    derivation = [stage for name, stage in meter.stages.items() if name not in NO_DERIVATION]
    return {
        "derivation_cpu_seconds": sum(stage["cpu_seconds"] for stage in derivation),
        "photos_opened": photos_there,
        "photos_a_cpu_second": photos_there / meter.stages["photos opened"]["cpu_seconds"],
        "shards_gib": _disk_gib(output / "data"),
        "left": built.ledger.left,
        "stages": meter.stages,
    }


def _as_stage(meter: Meter, name: str, method: Callable) -> Callable:
    @wraps(method)
    def measured(*arguments: object, **named: object) -> object:
        with meter.stage(name):
            return method(*arguments, **named)

    return measured


def measure_size(raw: Path, output: Path, engine: str) -> dict:
    """Of one raw folder. Of the scans before, between and behind the builds the one in the middle counts."""
    scans, builds = [measure(partial(scan, engine), raw, output.parent)], {}
    for name in ("default", "full"):
        builds[name] = measure(partial(build, engine, name, output), raw, output.parent)
        shutil.rmtree(output)
        scans.append(measure(partial(scan, engine), raw, output.parent))
    bare = sorted(scans, key=itemgetter("cpu_seconds"))[1]
    for figures in builds.values():
        figures["derivation_over_scan"] = figures["derivation_cpu_seconds"] / bare["cpu_seconds"]
        figures["build_over_scan"] = figures["cpu_seconds"] / bare["cpu_seconds"]
    size = (raw / "yelp_review.json").stat().st_size
    return {"review_bytes": size, "scan": bare, "scans_cpu_seconds": [s["cpu_seconds"] for s in scans]} | builds


def main(argv: list[str] | None = None) -> dict:
    arguments = corpus_parser(__doc__).parse_args(argv)
    file = arguments.output
    figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    of_engine = figures.setdefault(arguments.engine, {})
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        raw, output = Path(folder, "raw"), Path(folder, "built", "corpus")
        output.parent.mkdir()
        for reviews in arguments.reviews:
            write_raw(raw, reviews, arguments.photos, arguments.photo_size)
            machine = {"cpu": cpu_name(), "cores": os.cpu_count()}
            of_engine[str(reviews)] = machine | measure_size(raw, output, arguments.engine)
            tell(_rounded(figures), file)
    return _rounded(figures)


def _rounded(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {name: _rounded(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return list(map(_rounded, figures))
    return round(figures, 3) if isinstance(figures, float) else figures


if __name__ == "__main__":
    main()
