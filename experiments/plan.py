"""What is run for which table: rows and scales are data, `tables/*.yaml` and `scales/*.yaml`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ALL = "all"
# Flags of a scale that say how its models are evaluated, where one is evaluated again.
OF_EVALUATION = ("eval_batch_size", "eval_views", "num_beams", "max_test_users", "test_conditions", "mixed_precision")
# Of a table's file, of a row, of a scale.
TABLE_FIELDS = ("title", "of", "against", "axis", "notes", "curve", "optional", "rows")
ROW_FIELDS = ("name", "flags", "evaluated", "line", "at", "panel", "program")
SCALE_FIELDS = ("title", "seeds", "minutes", "corpus", "flags", "systems", "profiles", "classifiers")
# What does a run: train.py, `experiments.held_out` with its model, `experiments.sentiment` with the profiles of that.
TRAIN, PROFILES, SENTIMENT = "train", "profiles", "sentiment"
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Row:
    """A row of a table, or a point of a figure's line.

    Attributes:
        name: as the paper has it, unique in its table.
        flags: of train.py, beside the scale's.
        evaluated: flags of an evaluation of the model that was trained so; None: the training's own. Of a
            classification its flags.
        line, at: of a figure: the line that the point is of, and where it lies. Of a classification its line in the
            table, and the column.
        panel: of a figure with several side by side, what lies along this one.
        program: what does the row's runs, `TRAIN` or `SENTIMENT`.
    """

    name: str
    flags: dict[str, Any]
    evaluated: dict[str, Any] | None = None
    line: str | None = None
    at: float | str | None = None
    panel: str | None = None
    program: str = TRAIN


@dataclass(frozen=True)
class Table:
    """A table or figure.

    Attributes:
        name: of its file, e.g. "table_2".
        title: what it shows.
        of: where the paper has it, e.g. "Table 2".
        rows: in order.
        against: the row that all others are compared with; None: nothing is compared.
        axis: of a figure, what lies along it.
        notes: what a reader is told below it.
        curve: the development score is drawn against the time of training, too.
        optional: it is none of "all", and is run where it is named.
    """

    name: str
    title: str
    of: str
    rows: tuple[Row, ...]
    against: str | None = None
    axis: str | None = None
    notes: str | None = None
    curve: bool = False
    optional: bool = False


@dataclass(frozen=True)
class Scale:
    """How large runs are.

    Attributes:
        name: of its file.
        seeds: runs of each row.
        minutes: that a run takes about, where none is known yet.
        corpus: of the synthetic corpus, flags of `dataset_script.synthesize` and, as "build", of
            `dataset_script.mmprofile_yelp`; None: a corpus is to be named.
        flags: of train.py, of all runs.
        systems: flags by `--system`, e.g. its checkpoints.
        profiles: flags of `experiments.held_out`.
        classifiers: flags of `experiments.sentiment` by `--classifier`.
    """

    name: str
    title: str
    seeds: int
    minutes: float
    corpus: dict[str, dict[str, Any]] | None
    flags: dict[str, Any]
    systems: dict[str, dict[str, Any]] = field(default_factory=dict)
    profiles: dict[str, Any] = field(default_factory=dict)
    classifiers: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training, or what is done with what another run made.

    Attributes:
        flags: of the program, but for where things lie.
        trained: the run whose model is evaluated, or whose output is taken; None: this one trains.
        program: `TRAIN`, `PROFILES` or `SENTIMENT`.
    """

    flags: dict[str, Any]
    trained: "Run | None" = None
    program: str = TRAIN

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that tell runs apart by what is computed."""
        told = {"flags": self.flags, "trained": self.trained and self.trained.digest}
        if self.program != TRAIN:
            told["program"] = self.program
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def chain(self) -> list["Run"]:
        """The run and those that it needs, the first of which trains."""
        return [*(self.trained.chain if self.trained else []), self]

    @property
    def kind(self) -> str:
        """Runs of a kind take about equally long: a system's trainings, evaluations, a classifier's runs."""
        if self.program != TRAIN:
            return f"{self.program} {self.flags.get('classifier', '')}".strip()
        return EVALUATION if self.trained else self.flags.get("system", "mmprofile")


def table_names() -> list[str]:
    """Of all tables and figures."""
    return sorted((path.stem for path in (HERE / "tables").glob("*.yaml")), key=lambda name: (name[0] != "t", name))


def chosen_tables(names: Sequence[str]) -> list["Table"]:
    """Those named, in the order of `table_names`; of "all" those that are not optional.

    Raises:
        ValueError: if there is none of a name.
    """
    known = table_names()
    if unknown := [name for name in names if name not in (*known, ALL)]:
        raise ValueError(f"tables are of {[*known, ALL]}, got {unknown}")
    tables = [read_table(name) for name in known if name in names or ALL in names]
    return [table for table in tables if table.name in names or not table.optional]


def read_table(name: str) -> Table:
    """Raises a `ValueError` if the file is not of its form."""
    path = HERE / "tables" / f"{name}.yaml"
    given = _read(path, TABLE_FIELDS)
    rows = tuple(Row(**_checked(row, ROW_FIELDS, f"{path}, row {n}")) for n, row in enumerate(given.pop("rows"), 1))
    names = [row.name for row in rows]
    if len(set(names)) < len(names) or given.get("against", names[0]) not in names:
        raise ValueError(f"{path}: rows have different names, and `against` is one of them, got {names}")
    for row in rows:
        is_known = row.program == TRAIN or (row.program == SENTIMENT and "classifier" in (row.evaluated or {}))
        if not is_known or row.program != rows[0].program:
            raise ValueError(
                f"{path}: all rows are of {TRAIN}, or of {SENTIMENT} and name a classifier, got {row.program} and"
                f" {row.evaluated}"
            )
    return Table(name, rows=rows, **given)


def read_scale(name: str) -> Scale:
    """Raises a `ValueError` if the file is not of its form."""
    given: dict[str, Any] = {"corpus": None} | _read(HERE / "scales" / f"{name}.yaml", SCALE_FIELDS)
    return Scale(name, **given)


def runs_of(row: Row, scale: Scale, seeds: int, dataset: str | None = None) -> list[Run]:
    """A row's runs, a seed each.

    Args:
        dataset: the name of a corpus that is not the scale's own.
    """
    named = {} if dataset is None else {"dataset": dataset}
    own = scale.systems.get(row.flags.get("system", "mmprofile"), {})
    trained = [Run(scale.flags | own | row.flags | named | {"seed": seed}) for seed in range(seeds)]
    if row.evaluated is None:
        return trained
    if row.program == SENTIMENT:  # folds and what is held out are the same for all seeds
        of = scale.classifiers.get(row.evaluated["classifier"], {}) | row.evaluated
        profiles = [Run(scale.profiles, run, PROFILES) for run in trained]
        return [Run(of | {"seed": seed}, run, SENTIMENT) for seed, run in enumerate(profiles)]
    how = {name: scale.flags[name] for name in OF_EVALUATION if name in scale.flags}
    return [Run(how | named | row.evaluated, run) for run in trained]


def all_runs(tables: Sequence[Table], scale: Scale, seeds: int, dataset: str | None = None) -> list[Run]:
    """Of all tables, each once, a run before what needs it; seed after seed, so that all rows have one seed before the
    first has two."""
    found: dict[str, Run] = {}
    of_rows = [runs_of(row, scale, seeds, dataset) for table in tables for row in table.rows]
    for seed in range(seeds):
        for runs in of_rows:
            for run in runs[seed].chain:
                found.setdefault(run.digest, run)
    return list(found.values())


def _read(path: Path, fields: Sequence[str]) -> dict[str, Any]:
    return _checked(yaml.safe_load(path.read_text(encoding="utf-8")), fields, str(path))


def _checked(given: Any, fields: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(given, dict) or not set(given) <= set(fields):
        raise ValueError(f"{where} has {list(fields)}, got {given!r}")
    return given
