"""Profiles of users that a model has not seen, made without some of their reviews, which are kept for classifiers.

    python -m experiments.held_out --model outputs/quickstart --dataset outputs/corpus --output outputs/held_out

Of each validation and test user so many reviews are drawn, the same ones whatever the model. They are taken out of the
corpus with their photos; of the others the model makes the profile by the paper's recipe, the newest reviews in one
view, decoded as predict.py does. OUTPUT gets `reviews.parquet`, a row for each review that was taken out: `user_id`,
`split`, `text`, `stars`, and the user's `generated` and `true` profile as texts; the model's tokenizer; and the test
users' profiles and their score as train.py leaves them. The true profile is of all of a user's reviews, these too: it
tells more than any model can.
"""

import sys

from cli.flags import answer_help, parse_flags
from experiments.arguments import HeldOutArguments

if __name__ == "__main__":  # --help is there before what takes seconds to import
    answer_help(HeldOutArguments, __doc__)

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, concatenate_datasets
from datasets.table import InMemoryTable

import predict
from corpora.opening import open_corpus
from files.checkpoint_code import load_processor
from files.output_files import UNFINISHED, unfinished_folder, write_json
from mmprofile import ProfileSchema
from prediction.stored import StoredPredictions
from publishing.run_files import ALL_RESULTS, PREDICTIONS, RECIPE_ROW
from scoring.evaluation import profile_f1

REVIEWS, TOKENIZER = "reviews.parquet", "tokenizer"
SPLITS = ("validation", "test")
NEEDED = ("text", "stars")  # of a review


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Profiles the users; returns what stands in `all_results.json`. The output folder is whole or not there.

    Raises:
        ValueError: if the output is there already, or the corpus lacks a split, ratings or enough reviews.
    """
    arguments = parse_flags(HeldOutArguments, argv, __doc__)
    output = Path(arguments.output)
    if output.exists():
        raise ValueError(f"{output} is there already; choose another output")
    splits = open_corpus(arguments.dataset)
    if missing := [name for name in SPLITS if name not in splits]:
        raise ValueError(f"{arguments.dataset!r} has the splits {list(splits)}, {missing} missing")
    parts, rows = [], []
    for name in SPLITS:
        part, taken = take_out(splits[name], arguments.held_out, arguments.held_out_seed)
        parts.append(part)
        rows += [{"split": name} | row for row in taken]
    for name in SPLITS:
        if not any(row["split"] == name for row in rows):
            raise ValueError(f"no {name} user of {arguments.dataset!r} has two reviews with a text and a rating")
    with unfinished_folder(output.with_name(f"{UNFINISHED}-{output.name}")) as folder:
        processor, _ = load_processor(arguments.model, None)
        processor.tokenizer.save_pretrained(folder / TOKENIZER)
        profiles = _profiles(arguments, concatenate_datasets(parts), folder / "work")
        results = write_out(folder, rows, profiles, ProfileSchema(processor.profile_schema))
        shutil.rmtree(folder / "work")
        os.replace(folder, output)
    return results


def take_out(dataset: Dataset, number: int, seed: int) -> tuple[Dataset, list[dict[str, Any]]]:
    """A split without so many reviews of each user, half of the user's at most, and these: `user_id`, `text`, `stars`.

    Raises:
        ValueError: if reviews have no ratings.
    """
    table = dataset.data.table
    reviews, users = table.column("reviews"), table.column("user_id").to_pylist()
    fields = [field.name for field in reviews.type.value_type]
    if missing := [name for name in NEEDED if name not in fields]:
        raise ValueError(f"reviews to classify have {list(NEEDED)}, {missing} missing in {fields}")
    chunks, taken, at = [], [], 0
    for chunk in reviews.chunks:
        flat, offsets, kept, first = chunk.flatten(), [0], [], 0
        texts, stars = (flat.field(name).to_pylist() for name in NEEDED)
        for length in pc.fill_null(chunk.value_lengths(), 0).to_pylist():
            places = range(first, first + length)
            usable = [place for place in places if (texts[place] or "").strip() and stars[place] is not None]
            drawn = random.Random(f"{seed} {users[at]}").sample(usable, min(number, len(usable) // 2))
            taken += [{"user_id": users[at], "text": texts[place], "stars": stars[place]} for place in sorted(drawn)]
            kept += sorted(set(places) - set(drawn))
            offsets.append(len(kept))
            first, at = first + length, at + 1
        chunks.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat.take(pa.array(kept, pa.int64()))))
    place = table.column_names.index("reviews")
    changed = dataset.data.table.set_column(place, "reviews", pa.chunked_array(chunks, chunks[0].type))
    return Dataset(InMemoryTable(changed), info=dataset.info.copy()), taken


def _profiles(arguments: HeldOutArguments, dataset: Dataset, work: Path) -> dict[str, dict[str, Any]]:
    """By user: `profile`, its `text`, and `truth`; by predict.py."""
    work.mkdir()
    corpus = work / "users.parquet"
    dataset.to_parquet(corpus)
    names = ("model", "num_reviews", "num_images", "batch_size", "num_workers")
    flags = [word for name in names for word in (f"--{name}", str(getattr(arguments, name)))]
    predict.main([*flags, "--views", "1", "--dataset", str(corpus), "--output", str(work / "predictions")])
    stored = StoredPredictions(work / "predictions")
    return {row["user_id"]: row for row in stored.read(["user_id", "profile", "text", "truth"])}


def write_out(
    folder: Path, rows: list[dict[str, Any]], profiles: dict[str, dict[str, Any]], schema: ProfileSchema
) -> dict[str, Any]:
    """Writes the reviews and the test users' profiles, and returns the results.

    Raises:
        ValueError: if a user's true profile is not known.
    """
    told = {row["user_id"]: profiles[row["user_id"]] for row in rows}
    if unknown := [user for user, found in told.items() if found["truth"] is None]:
        raise ValueError(f"{len(unknown)} of {len(told)} users have no valid true profile, {unknown[0]} for example")
    texts = {
        user: {"generated": found["text"] or "", "true": schema.render(found["truth"])} for user, found in told.items()
    }
    pq.write_table(pa.Table.from_pylist([row | texts[row["user_id"]] for row in rows]), folder / REVIEWS)
    tested = {row["user_id"]: told[row["user_id"]] for row in rows if row["split"] == "test"}
    truths = [found["truth"] for found in tested.values()]
    written = [found["profile"] or dict.fromkeys(schema.keys) for found in tested.values()]
    columns = {name: [json.dumps(one) for one in its] for name, its in (("truth", truths), (RECIPE_ROW, written))}
    pq.write_table(pa.table({"user_id": list(tested), **columns}), folder / PREDICTIONS)
    results = {"test_f1": {RECIPE_ROW: profile_f1(written, truths, schema)}, "users": len(told), "reviews": len(rows)}
    write_json(folder / ALL_RESULTS, results)
    return results


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"experiments.held_out: {error}")
