"""All systems of baselines/table.py at tiny size on the demo's corpus: scores, seconds and parameters.

    python -m benchmarks.systems --output benchmarks/results/systems_cpu.json --readme baselines/README.md

Trains `recipes/quickstart.yaml --system NAME` (`make demo` builds the corpus) into `--folder`/NAME, each in a process
of its own. Started again it goes on where it stopped: a system that FILE has is not trained again. Seconds are of
training alone, by the pace of some steps that are timed at the end, one system after the other: nothing else should
run beside, and `--timed_steps 0` leaves them for another start.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import systems_parser

if __name__ == "__main__":  # --help is there before what takes seconds to import
    systems_parser(__doc__).parse_known_args()

import json
import math
import re
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

from safetensors import safe_open

from baselines.table import SYSTEMS, find_system
from benchmarks.machine import cpu_name, tell
from files.output_files import read_json, replacing
from mmprofile import ProfileSchema
from scoring.reporting import table_order
from training.run_recipe import read_saved_recipe

ROOT = Path(__file__).parent.parent
RESULTS = "all_results.json"
# Of the joint training: all objectives on each batch, as in the paper.
PLAIN = ("--objective_schedule", "all", "--objective_weights", *"1111", "--num_epochs", "6")
BEGIN, END = "<!-- table of benchmarks/systems.py -->", "<!-- end of table -->"


def train(name: str, folder: Path, dataset: str, flags: list[str]) -> None:
    """Trains a system from where its folder stands, unless it is complete."""
    if (folder / RESULTS).is_file():
        return
    command = [sys.executable, str(ROOT / "train.py"), str(ROOT / "recipes" / "quickstart.yaml"), "--system", name]
    command += ["--dataset", dataset, "--output_dir", str(folder), "--resume_from_checkpoint", "auto"]
    command += ["--eval_views", "1"]  # all systems read the newest reviews alone, as most can no more
    command += [*PLAIN, *flags]
    subprocess.run(command, check=True)


def training_seconds(name: str, dataset: str, steps: int, flags: list[str]) -> float:
    """What the recipe's epochs take, by the pace of its first steps."""
    with tempfile.TemporaryDirectory() as folder:
        few = ["--max_steps", str(steps), "--max_eval_users", "8"]
        train(name, Path(folder) / name, dataset, [*flags, *few])
        (timed,) = map(json.loads, (Path(folder) / name / "metrics.jsonl").read_text().splitlines())
        users = read_json(Path(folder) / name / RESULTS)["train_corpus"]["train"]
        recipe: Any = read_saved_recipe(Path(folder) / name)
    return recipe["num_epochs"] * users / timed["users_per_second"]


def figures(name: str, folder: Path) -> dict:
    """Of a complete folder: Macro-F1 in percent by attribute, of the average its interval, and what else counts."""
    results = read_json(folder / RESULTS)
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        sizes = [weights.get_slice(key).get_shape() for key in weights.keys()]  # noqa: SIM118  # no mapping
    return {
        "f1": results["test_f1"][name],
        "interval": results["test_intervals"][name]["average"],
        "reviews_alone": results.get("test_text_only_average_f1"),
        "gain": results["test_differences"].get("reviews alone", {}).get("average"),
        "majority": results["test_majority_average_f1"],
        "parameters": sum(math.prod(size) for size in sizes),
        "seconds": None,
        "best_epoch": results["best_epoch"],
        "users": results["test_corpus"]["users"],
    }


def table(found: Mapping[str, Mapping], schema: ProfileSchema) -> str:
    """GitHub Markdown, a line a system."""
    columns = {attribute.key: attribute.name for attribute in table_order(schema)}
    head = ["System", "`--system`", *columns.values(), "Average", "95 % interval", "Reviews alone"]
    head += ["Parameters", "Minutes"]
    lines = [head, [":--", ":--", *["--:"] * (len(head) - 2)]]
    for name, of in found.items():
        low, high = of["interval"]
        alone = "" if of["reviews_alone"] is None else f"{of['reviews_alone']:.1f}"
        lines.append([
            find_system(name).title,
            f"`{name}`",
            *(f"{of['f1'][key]:.1f}" for key in columns),
            f"{of['f1']['average']:.1f}",
            f"{low:.1f}–{high:.1f}",
            alone,
            f"{of['parameters'] / 1e6:.2f} M",
            "" if of["seconds"] is None else f"{of['seconds'] / 60:.1f}",
        ])  # fmt: skip
    if found:
        majority = f"{next(iter(found.values()))['majority']:.1f}"
        lines.append(["Majority class", "", *[""] * len(columns), majority, *[""] * 4])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def replace_table(path: Path, text: str) -> None:
    """Raises a `ValueError` if the file has no place for the table."""
    before = path.read_text(encoding="utf-8")
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", before)
    if len(parts) != 5:
        raise ValueError(f"{path} must have one {BEGIN} and one {END}")
    with replacing(path) as temporary:
        temporary.write_text("".join([*parts[:2], f"\n\n{text}\n\n", *parts[3:]]), encoding="utf-8")


def main(argv: list[str] | None = None) -> dict:
    options = systems_parser(__doc__).parse_args(argv)
    known = read_json(options.output)["systems"] if options.output.is_file() else {}
    for name in options.systems or SYSTEMS:
        if find_system(name).name in known:
            continue
        train(name, options.folder / name, options.dataset, options.flags)
        known[name] = figures(name, options.folder / name) | {"cpu": cpu_name()}
        tell({"systems": known}, options.output)
    for name, of in known.items():
        if of["seconds"] is None and options.timed_steps:
            of["seconds"] = training_seconds(name, options.dataset, options.timed_steps, options.flags)
            of["cpu"] = cpu_name()
            tell({"systems": known}, options.output)
    found = {name: known[name] for name in SYSTEMS if name in known}
    text = table(found, ProfileSchema())
    print(text)
    if options.readme:
        replace_table(options.readme, text)
    return found


if __name__ == "__main__":
    main()
