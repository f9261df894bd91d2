"""Users taken out of a folder of predictions, for good.

Their ids stand in `forgetting.json` until nothing else in the folder has them: a process that was killed meanwhile, or
any later run in the folder, ends what was begun. Each file is replaced in one step. What the folder holds of the
forgotten is then gone, this file too; of figures that they had a part in, those that can be counted again are.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from files.output_files import UNFINISHED, read_json, remove_unfinished, write_json
from mmprofile import shown
from prediction.encodings import encodings_path
from prediction.store import COUNTED, RESULTS, ROOM, RUN, STAGE, count_rows, write_parquet
from prediction.updating import mend

FORGETTING = "forgetting.json"
# Of results.json: what tells of the run and of none of its users. All else is of them together, whoever writes it.
OF_RUN = ("model", "revision", "device", "num_processes", "seconds", "input_wait_share")
OF_RUN += ("users_this_time", "users_per_second")
FIGURES = ("confusion.png", "calibration.png")


def forget_users(folder: str | os.PathLike, ids: Sequence[str]) -> dict:
    """Removes users' rows from every Parquet file in a folder that no other process works in, and counts anew.

    Args:
        folder: of `predict.py --output`.
        ids: of users; those of a process that was killed while it forgot them may be among them.

    Returns:
        What stands in `results.json`, or {} without one.

    Raises:
        ValueError: if the folder holds no predictions, or nothing of one of the users; then nothing has changed.
    """
    folder = Path(folder)
    mend(folder)
    begun = finish_forgetting(folder)
    there = set(begun)
    for path in _tables(folder):
        there.update(pq.read_table(path, columns=["user_id"])["user_id"].to_pylist())
    there.update(user_id for user_id in ids if encodings_path(folder, user_id).exists())
    if missing := [user_id for user_id in dict.fromkeys(ids) if user_id not in there]:
        raise ValueError(f"{folder} holds nothing of the users {', '.join(map(shown, missing))}; nothing was removed")
    write_json(folder / FORGETTING, {"ids": list(dict.fromkeys(ids))})
    finish_forgetting(folder)
    return read_json(folder / RESULTS) if (folder / RESULTS).exists() else {}


def finish_forgetting(folder: str | os.PathLike) -> list[str]:
    """Ends what `forget_users` has begun in a folder, if it has; returns the ids."""
    folder = Path(folder)
    if not (folder / FORGETTING).exists():
        return []
    ids = read_json(folder / FORGETTING)["ids"]
    # No input is this folder's any more: one with these users is another one, one without them too.
    write_json(folder / RUN, read_json(folder / RUN) | {"users": None})
    shutil.rmtree(folder / STAGE / ROOM, ignore_errors=True)  # predictions that took no place yet, or lost it
    for room in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        remove_unfinished(room)
    forgotten = pa.array(ids, pa.string())
    for path in _tables(folder):
        table = pq.read_table(path)
        left = table.filter(pc.invert(pc.is_in(table["user_id"], forgotten)))
        if len(left) < len(table):
            write_parquet(path, left)
    for user_id in ids:
        encodings_path(folder, user_id).unlink(missing_ok=True)
    _count_again(folder)
    (folder / FORGETTING).unlink()
    return ids


def _tables(folder: Path) -> Iterator[Path]:
    """Every Parquet file with users' ids."""
    for path in sorted(folder.rglob("*.parquet")):
        if not path.name.startswith(UNFINISHED) and "user_id" in pq.read_schema(path).names:
            yield path


def _count_again(folder: Path) -> None:
    for name in FIGURES:
        (folder / name).unlink(missing_ok=True)
    if not (folder / RESULTS).exists():
        return
    results = {name: value for name, value in read_json(folder / RESULTS).items() if name in OF_RUN}
    parts = sorted((folder / ROOM).glob("part-*.parquet"))
    rows = (row for path in parts for row in pq.read_table(path, columns=COUNTED).to_pylist())
    write_json(folder / RESULTS, results | count_rows(rows))
