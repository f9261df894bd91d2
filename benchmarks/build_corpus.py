"""How long the corpus takes at Yelp's real size, beside the engine's bare scan and a plain loop of json.loads.

    python benchmarks/build_corpus.py --output build_corpus.json
    python benchmarks/build_corpus.py --output build_corpus.json --reviews 700000 --photos 2000 --photo_size 330

Writes a raw folder (5.3 GB for 7 million reviews; lengths of texts and activity of users as in Yelp's), then measures,
each step in a process of its own: DuckDB's scan of review.json, the derivation (all but the photos) of the
configurations `default` and `full`, the loop, and the derivation of a tenth of the reviews, which shows how the time
grows. The folder is deleted unless --keep.
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
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from PIL import Image

from dataset_script.corpus import plan_corpus
from dataset_script.corpus_config import MMProfileYelpConfig
from dataset_script.engines import TEXT, connect, read_lines
from dataset_script.photos import Album
from dataset_script.profile_rules import read_rules
from dataset_script.raw_files import Ledger, find_raw_files
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
    """Writes a raw folder with so many reviews, and so many photos of `photo_size` pixels a side."""
    (folder / "photos").mkdir(parents=True)
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
            (folder / "photos" / f"P{n:021}.jpg").write_bytes(buffer.getvalue())


def measure(step: Callable[[Path], dict], folder: Path) -> dict[str, float]:
    """Runs the step in a process of its own; its figures, `seconds`, and `peak_gib` of the process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_timed, step, folder).result()


def _timed(step: Callable[[Path], dict], folder: Path) -> dict[str, float]:
    start = time.perf_counter()
    figures = step(folder)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20} | figures


def scan(folder: Path) -> dict:
    """The engine reads every field that the derivation needs of every line, and keeps nothing."""
    with tempfile.TemporaryDirectory() as scratch, connect("duckdb", "2.5GB", 0, Path(scratch)) as backend:
        lines = read_lines(backend, find_raw_files(folder).review, dict.fromkeys(REVIEW_FIELDS, TEXT))
        start = time.perf_counter()
        lines.aggregate([lines[field].max().name(field) for field in REVIEW_FIELDS]).to_pyarrow()
        return {"seconds": time.perf_counter() - start}


def derive(folder: Path) -> dict:
    """The rows of the paper's 4,000 users."""
    return _derive(folder, MMProfileYelpConfig(name="default", version="1.0.0", scratch=str(folder)))


def derive_full(folder: Path) -> dict:
    """The rows of everybody."""
    return _derive(folder, MMProfileYelpConfig(name="full", version="1.0.0", all_users=True, scratch=str(folder)))


def _derive(folder: Path, config: MMProfileYelpConfig) -> dict:
    """The rows, without the time that the photos take, which is told apart."""
    proving = []

    class TimedAlbum(Album):
        def prove(self, photo_ids: Iterable[str], number: int, threads: int, ledger: Ledger) -> list[str]:
            photo_ids = list(photo_ids)  # so that the engine's time is not the photos'
            start = time.perf_counter()
            bad = super().prove(photo_ids, number, threads, ledger)
            proving.append((time.perf_counter() - start, len(photo_ids)))
            return bad

    raw = find_raw_files(folder)
    album = TimedAlbum(raw, config.max_photo_bytes, config.max_photo_pixels)
    start = time.perf_counter()
    corpus = plan_corpus(raw, config, read_rules(SCHEMA), album)
    (seconds, photos) = proving[0]
    left = {f"left: {step}": count for step, count in corpus.ledger.left.items()}
    total = time.perf_counter() - start - seconds
    start = time.perf_counter()
    size = sum(len(album.content(photo_id)) for photo_id in album.usable)
    copying = time.perf_counter() - start
    return {
        "seconds": total,
        "photos": photos,
        "photo_bytes": size / max(photos, 1),
        "photos_a_second_a_core": photos / (seconds * config.workers + copying),
    } | left


def loop(folder: Path) -> dict:
    with find_raw_files(folder).review.open(encoding="utf-8") as file:  # faster than from bytes
        for line in file:
            json.loads(line)
    return {}


def main(argv: list[str] | None = None) -> dict:
    arguments = corpus_parser(__doc__).parse_args(argv)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        for name, reviews in (("tenth", arguments.reviews // 10), ("whole", arguments.reviews)):
            write_raw(folder / name, reviews, arguments.photos, arguments.photo_size)
        size = (folder / "whole" / "yelp_review.json").stat().st_size
        scanned, derived, full, looped = (
            measure(step, folder / "whole") for step in (scan, derive, derive_full, loop)
        )
        tenth = measure(derive, folder / "tenth")
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)
    figures = {
        "reviews": arguments.reviews,
        "review_bytes": size,
        "derivation_seconds": derived["seconds"],
        "derivation_over_scan": derived["seconds"] / scanned["seconds"],
        "json_loop_over_derivation": looped["seconds"] / derived["seconds"],
        "full_derivation_over_scan": full["seconds"] / scanned["seconds"],
        "peak_gib": max(derived["peak_gib"], full["peak_gib"]),
        "growth": derived["seconds"] / tenth["seconds"],
        "photos_a_second_a_core": derived["photos_a_second_a_core"],
        "scan": scanned,
        "derivation": derived,
        "full_derivation": full,
        "json_loop": looped,
        "derivation_of_a_tenth": tenth,
    }
    Path(arguments.output).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
