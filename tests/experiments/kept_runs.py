"""Results of runs as their programs would leave them, of profiles and ratings drawn at random."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.plan import Run
from experiments.results import keep
from experiments.sentiment import scores
from mmprofile import Profile, ProfileSchema
from scoring.evaluation import profile_f1

SCHEMA = ProfileSchema()
USERS = 40


def profiles(seed: int, wrong: float = 0.0) -> list[Profile]:
    """The same users' whatever the seed, of whom so large a share is wrong."""
    truth, generator = np.random.default_rng(0), np.random.default_rng(seed + 1)
    found: list[Profile] = []
    for _ in range(USERS):
        right = {a.key: truth.permutation(a.values)[: a.count].tolist() for a in SCHEMA.attributes}
        other = {a.key: generator.permutation(a.values)[: a.count].tolist() for a in SCHEMA.attributes}
        chosen = {key: (other if generator.random() < wrong else right)[key] for key in right}
        found.append({a.key: chosen[a.key] if a.count > 1 else chosen[a.key][0] for a in SCHEMA.attributes})
    return found


def keep_run(folder: Path, output: Path, run: Run, wrong: float) -> None:
    """As if it had been run."""
    output.mkdir(parents=True, exist_ok=True)
    truths, written = profiles(0), profiles(run.flags.get("seed", 0), wrong)
    rows = {"mmprofile": written, "the paper's recipe": written}
    f1 = {name: profile_f1(its, truths, SCHEMA) for name, its in rows.items()}
    f1["majority class"] = profile_f1([truths[0]] * USERS, truths, SCHEMA)
    results = {"test_f1": f1, "test_corpus": {"users": USERS}, "train_seconds": 1.0, "best_epoch": 1}
    (output / "all_results.json").write_text(json.dumps(results))
    records = [
        {
            "epoch": n,
            "step": 5 * n,
            "seconds": 9.0,
            "cpu_seconds": (2.0, 3.0, 50.0)[n - 1],
            "dev_f1": {"average": 20.0 * n},
        }
        for n in (1, 2, 3)
    ]
    (output / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    texts = {name: [json.dumps(one) for one in its] for name, its in ({"truth": truths} | rows).items()}
    table = pa.table({"user_id": [f"u{n}" for n in range(USERS)], **texts})
    pq.write_table(table, output / "test_predictions.parquet")
    keep(folder, run, output, {"seconds": 2.0})


def write_ratings(output: Path, wrong: float, seed: int = 0) -> None:
    """What a classification leaves of three reviews of each user, of which so large a share is wrong."""
    output.mkdir(parents=True, exist_ok=True)
    truths = np.random.default_rng(0).integers(1, 6, 3 * USERS)
    generator = np.random.default_rng(seed + 1)
    predicted = np.where(generator.random(len(truths)) < wrong, 1 + truths % 5, truths)
    table = pa.table({"user_id": [f"u{n // 3}" for n in range(len(truths))], "rating": truths, "predicted": predicted})
    pq.write_table(table, output / "test_predictions.parquet")
    results = scores(truths, predicted) | {"majority": {"accuracy": 25.0, "macro_f1": 8.0}}
    (output / "all_results.json").write_text(json.dumps(results))


def keep_ratings(folder: Path, output: Path, run: Run, wrong: float) -> None:
    """As if it had been run."""
    write_ratings(output, wrong, run.flags.get("seed", 0))
    keep(folder, run, output, {"seconds": 3.0})
