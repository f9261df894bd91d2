"""What is kept of a run: its scores, and every test user's profile, so that anything else can be computed without a
model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.plan import TRAIN, Run
from files.output_files import read_json, replacing, write_json
from mmprofile import Profile
from publishing.run_files import ALL_RESULTS, METRICS, PREDICTIONS, RECIPE_ROW

OF_USERS = ("user_id", "truth", "rating")  # columns that runs of a corpus share
EPOCH = ("epoch", "step", "seconds", "cpu_seconds")
KEPT = ("test_f1", "test_corpus", "train_corpus", "train_seconds", "best_epoch", "accuracy", "macro_f1", "majority")


@dataclass
class Kept:
    """A run's results.

    Attributes:
        told: `flags`, `trained` (the digest of the run whose model was evaluated), `seconds` on the clock, `epochs`
            (of each evaluation those of `EPOCH`, seconds without evaluations, and the average `dev_f1`), and of
            `all_results.json` those of `KEPT`.
        users: ids of the test users.
        truths: their true profiles.
        profiles: by row of the results, e.g. "reviews alone".
    """

    told: dict[str, Any]
    users: list[str]
    truths: list[Profile]
    profiles: dict[str, list[Profile]]

    @property
    def own(self) -> str:
        """The row that the paper's tables are of: three reviews in one view, and a beam search."""
        return RECIPE_ROW if RECIPE_ROW in self.profiles else next(iter(self.profiles))


@dataclass
class Rated:
    """A classification's results.

    Attributes:
        told: as of `Kept`; `accuracy`, `macro_f1` and those of the `majority` class in percent.
        users: id of the user, of each review.
        truths: its rating, 1 to 5.
        predicted: likewise.
    """

    told: dict[str, Any]
    users: list[str]
    truths: list[int]
    predicted: list[int]


def _paths(folder: Path, run: Run) -> tuple[Path, Path]:
    return folder / f"{run.digest}.json", folder / f"{run.digest}.parquet"


def is_done(folder: Path, run: Run) -> bool:
    """Whether a run's results are kept."""
    return _paths(folder, run)[0].is_file()


def keep(folder: Path, run: Run, output: Path, beside: Mapping[str, Any]) -> None:
    """Keeps the results of a run whose output folder is complete.

    Args:
        folder: of the scale's results.
        output: what the run's program wrote.
        beside: what else is told.
    """
    results = read_json(output / ALL_RESULTS)
    told: dict[str, Any] = {"flags": run.flags, "trained": run.trained and run.trained.digest, **beside}
    if run.program != TRAIN:
        told["program"] = run.program
    told |= {"epochs": _epochs(output)} | {name: results[name] for name in KEPT if name in results}
    summary, predictions = _paths(folder, run)
    folder.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(output / PREDICTIONS)
    shared = [name for name in OF_USERS if name in table.column_names]
    told["users"] = _keep_users(folder, table.select(shared))
    _write(predictions, table.drop_columns(shared))
    write_json(summary, told)  # the last: then the run is done


def _keep_users(folder: Path, users: pa.Table) -> str:
    """The name of the file, by what is in it: most of a run's size are ids."""
    text = json.dumps(users.to_pydict(), sort_keys=True)
    name = f"users-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
    if not (folder / name).is_file():
        _write(folder / name, users)
    return name


def _write(path: Path, table: pa.Table) -> None:
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19, use_dictionary=False)


def _epochs(output: Path) -> list[dict[str, Any]]:
    path = output / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [json.loads(line) for line in lines]
    return [{name: one[name] for name in EPOCH if name in one} | {"dev_f1": one["dev_f1"]["average"]} for one in found]


def read_kept(folder: Path, run: Run) -> Kept:
    """Raises a `ValueError` if a run is not done, or its files do not fit each other."""
    told, table = _read(folder, run)
    users, truths = (table.pop(name) for name in ("user_id", "truth"))
    profiles = {name: [json.loads(text) for text in texts] for name, texts in table.items()}
    return Kept(told, users, [json.loads(text) for text in truths], profiles)


def read_rated(folder: Path, run: Run) -> Rated:
    """Of a classification, as `read_kept`."""
    told, table = _read(folder, run)
    return Rated(told, table["user_id"], table["rating"], table["predicted"])


def _read(folder: Path, run: Run) -> tuple[dict[str, Any], dict[str, list]]:
    summary, predictions = _paths(folder, run)
    if not summary.is_file():
        raise ValueError(f"run {run.digest} is not done: {run.flags}")
    told = read_json(summary)
    users, rows = pq.read_table(folder / told["users"]), pq.read_table(predictions)
    if len(users) != len(rows):
        raise ValueError(f"{predictions} is of {len(rows)}, {told['users']} of {len(users)}")
    return told, users.to_pydict() | rows.to_pydict()


def known_seconds(folder: Path) -> dict[str, list[float]]:
    """How long runs took, by kind."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("[!.]*.json")):  # what begins with a point is being written by another run
        told = read_json(path)
        run = Run(told["flags"], Run({}) if told["trained"] else None, told.get("program", TRAIN))
        found.setdefault(run.kind, []).append(told["seconds"])
    return found
