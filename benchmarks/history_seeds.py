"""What whole histories bring, over seeds: Macro-F1 of models that read them, and by the paper's recipe, the newest
three reviews in one view; by marginals in place of the joint mode, weighted or not; and how well calibrated they are.

    python -m dataset_script.synthesize --output outputs/raw-large --users 8000
    python -m dataset_script.mmprofile_yelp --data_dir outputs/raw-large --output outputs/large \
        --captions photo_captions --train_size 1500 --validation_size 250 --test_size 1000
    accelerate launch train.py recipes/quickstart.yaml --dataset outputs/large --output_dir outputs/seeds --seeds 5 \
        --objective_schedule sampled --objective_weights 0.7 0.2 0.05 0.05 --num_epochs 17 --max_eval_users 250
    python benchmarks/history_seeds.py --models outputs/seeds/seed-* --dataset outputs/large --output FILE

Predictions go to `--folder`, one a model and a way of reading; started again it goes on with what is missing. It
prints the means over the models, and of their differences the 95 % intervals, by a bootstrap over the split's users in
which each resample is the mean over the models.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import history_seeds_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    history_seeds_parser(__doc__).parse_known_args()

from collections.abc import Sequence
from typing import Any

import numpy as np

import predict
from benchmarks.machine import cpu_name
from files.output_files import write_json
from mmprofile import MMProfileConfig, ProfileSchema, fit_of_views, marginal_profile
from prediction.stored import StoredPredictions
from scoring.bootstrap import RESAMPLES, interval, resample_f1
from scoring.evaluation import profile_f1
from scoring.plots import calibration

READINGS = {  # -> flags of predict.py
    "history": {"views": "all"},
    "paper's recipe": {"views": "1", "num_reviews": "3"},
}
COMPARED = (
    ("history", "paper's recipe"),
    ("history by marginals", "history"),
    ("history by weighted marginals", "history"),
)


def predicted(model: str, dataset: str, split: str, folder: Path) -> tuple[dict[str, list], list, ProfileSchema, dict]:
    """Profiles by way of reading and deciding, the true ones, what a profile is, and of the history by attribute key
    the expected calibration error."""
    profiles: dict[str, list] = {}
    truths, schema, errors = [], ProfileSchema(), {}
    config = MMProfileConfig.from_pretrained(model)
    for name, reading in READINGS.items():
        output = folder / Path(model).name / f"views-{reading['views']}"
        flags = {"model": model, "dataset": dataset, "split": split, "output": output} | reading
        predict.main([text for flag, value in flags.items() for text in (f"--{flag}", str(value))])
        stored = StoredPredictions(output)
        rows = list(stored.read(["profile", "probabilities", "truth", "views"]))
        schema, truths = stored.schema, [row["truth"] for row in rows]
        nothing = dict.fromkeys(schema.keys)
        profiles[name] = [row["profile"] or nothing for row in rows]
        if name == "history":
            errors = {key: of["expected_error"] for key, of in calibration(rows, schema).items()}
            fits = [fit_of_views(config.calibrations, config.combination, row["views"] or 1) or {} for row in rows]
            weights: dict[str, list] = {
                "history by marginals": [None] * len(rows),
                "history by weighted marginals": [fit.get("value_weights") for fit in fits],
            }
            for how, of_users in weights.items():
                profiles[how] = [
                    marginal_profile(schema, row["probabilities"], its) if row["profile"] else nothing
                    for row, its in zip(rows, of_users, strict=True)
                ]
    return profiles, truths, schema, errors


def compare(found: Sequence[tuple]) -> dict[str, Any]:
    """Of the models' profiles the means of `f1` and `averages` of each, and `differences` with `intervals` and the
    share of resamples in which there is none, `p`.

    Args:
        found: of each model what `predicted` returns.
    """
    schema = found[0][2]
    scores = [{name: profile_f1(its, truths, schema) for name, its in of.items()} for of, truths, *_ in found]
    resampled = [resample_f1(of, truths, schema) for of, truths, *_ in found]
    keys = [*schema.keys, "average"]
    means = {name: {key: float(np.mean([s[name][key] for s in scores])) for key in keys} for name in scores[0]}
    differences = {}
    for one, other in COMPARED:
        drawn = {key: np.mean([r[one][key] - r[other][key] for r in resampled], axis=0) for key in keys}
        differences[f"{one} minus {other}"] = {
            key: {
                "difference": means[one][key] - means[other][key],
                "interval": interval(drawn[key]),
                "p": float((drawn[key] <= 0).mean()),
            }
            for key in keys
        }
    averages = {name: [s[name]["average"] for s in scores] for name in scores[0]}
    return {"f1": means, "averages": averages, "differences": differences}


def main(argv: list[str] | None = None) -> dict:
    options = history_seeds_parser(__doc__).parse_args(argv)
    found = [predicted(model, options.dataset, options.split, options.folder) for model in options.models]
    results = compare(found)
    errors = [of[3] for of in found]
    results["calibration"] = {key: float(np.mean([of[key] for of in errors])) for key in errors[0]}
    results["calibrations"] = errors
    results |= {"models": len(found), "users": len(found[0][1]), "resamples": RESAMPLES, "cpu": cpu_name()}
    for name, scores in results["f1"].items():
        print(f"{name}: average {scores['average']:.1f}, " + ", ".join(f"{k} {v:.1f}" for k, v in scores.items()))
    for name, of_keys in results["differences"].items():
        for key, told in of_keys.items():
            low, high = told["interval"]
            print(f"{name}, {key}: {told['difference']:.2f} (95 % {low:.2f} to {high:.2f}), p {told['p']:.4f}")
    told = ", ".join(f"{key} {error:.3f}" for key, error in results["calibration"].items())
    print(f"history, expected calibration error: {told}")
    write_json(options.output, results)
    return results


if __name__ == "__main__":
    main()
