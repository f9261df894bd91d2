"""The demo's figures over seeds: what one seed shows moves by 3 to 4 points from the next.

    python benchmarks/demo_seeds.py --output FILE
    python benchmarks/demo_seeds.py --output FILE --name "no forged lines" --flags --forged_lines 0

Trains `recipes/quickstart.yaml` on the demo's corpus (`make demo` builds it) with `train.py --seeds`, 6 minutes or so
a seed, into `--folder`/NAME; started again it goes on with the seeds that are missing. FILE gets each seed's figures.
It prints means with standard errors: of the average Macro-F1, and of how often a forged profile is believed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import seeds_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    seeds_parser(__doc__).parse_known_args()

import statistics

import train
from files.output_files import read_json, write_json

ROOT = Path(__file__).parent.parent
AVERAGES = (
    "test_average_f1",
    "test_paper_recipe_average_f1",
    "test_text_only_average_f1",
    "test_unpaired_average_f1",
    "test_forged_average_f1",
    "test_often_forged_average_f1",
)


def figures(folder: Path) -> dict:
    """Those of one training."""
    results = read_json(folder / "all_results.json")
    return {name: results[name] for name in (*AVERAGES, "test_f1", "test_forged_agreement") if name in results}


def interval(values: list[float]) -> str:
    if not values:
        return "unknown"
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} ± {error:.2f}"


def report(found: dict) -> None:
    for name, runs in found.items():
        print(f"{name}: {len(runs)} seeds, average Macro-F1 {interval([r['test_average_f1'] for r in runs.values()])}")
        for key in next(iter(runs.values())).get("test_forged_agreement", ()):
            agreed = [r["test_forged_agreement"][key] for r in runs.values()]
            once, often = (
                interval([of_run[row] - of_run["without"] for of_run in agreed if row in of_run])
                for row in ("with", "with_five")
            )
            print(f"  {key}: a forged value is believed by {once} points more than by chance, of five lines {often}")


def main(argv: list[str] | None = None) -> dict:
    options = seeds_parser(__doc__).parse_args(argv)
    path, folder = Path(options.output), Path(options.folder) / options.name
    where = ["--dataset", options.dataset, "--output_dir", str(folder), "--seeds", str(options.seeds)]
    trained = train.main([str(ROOT / "recipes" / "quickstart.yaml"), *where, *options.flags])
    found = read_json(path) if path.exists() else {}
    found[options.name] = {str(seed): figures(folder / f"seed-{seed}") for seed in trained["seeds"]}
    write_json(path, found)
    report(found)
    return found


if __name__ == "__main__":
    main()
