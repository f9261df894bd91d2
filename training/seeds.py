"""The same training from several seeds, one after the other in one process group, and what their figures come to."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, release_memory
from scipy.stats import t

from cli.logs import told
from files.output_files import only_run, read_json, write_json
from mmprofile import MMProfileConfig
from scoring.bootstrap import CONFIDENCE
from scoring.reporting import format_table
from training.arguments import JointTrainingArguments
from training.run_recipe import NAME as RECIPE
from training.run_recipe import read_saved_recipe, run_recipe

RESULTS, SEEDS = "all_results.json", "seeds.json"


def run_seeds(arguments: JointTrainingArguments, run: Callable[[JointTrainingArguments], dict]) -> dict:
    """Has `run` train each seed in a folder of its own, `output_dir/seed-N`, and writes `output_dir/seeds.json` after
    each. A run that has ended is not trained again; one that was killed goes on from its checkpoint, if there is one.

    Nothing of a run is left to the next but the process group: torch, numpy and Python draw from its own seed, and
    Accelerate's state is made anew. Each is, bit for bit, the run of that seed alone.

    Returns:
        What `seeds.json` holds, see `summarise_seeds`.

    Raises:
        ValueError: if a run that has ended there had other flags.
    """
    state = PartialState(cpu=not torch.accelerator.is_available())  # as train.py has it
    output, summary = Path(arguments.output_dir), {}
    with only_run(output) if state.is_main_process else nullcontext():
        ended = _on_main(state, lambda: _ended(arguments)) if arguments.do_train else {}
        seeds = range(arguments.seed, arguments.seed + (arguments.seeds or 1))
        found = {}
        for seed in seeds:
            if seed not in ended:
                release_memory()
                AcceleratorState._reset_state()
                ended[seed] = run(of_seed(arguments, seed))
            found[seed] = ended[seed]
            summary = summarise_seeds(found)
            if state.is_main_process:
                write_json(output / SEEDS, summary)
    if state.is_main_process:
        _report(summary, output, seeds)
    return summary


def of_seed(arguments: JointTrainingArguments, seed: int) -> JointTrainingArguments:
    """The flags of the run of one seed."""
    output = Path(arguments.output_dir)
    resume, hub = arguments.resume_from_checkpoint, arguments.hub_model_id or output.resolve().name
    if arguments.do_train and arguments.save_steps and not arguments.overwrite_output_dir:
        resume = "auto"
    return dataclasses.replace(
        arguments,
        seed=seed,
        seeds=None,
        output_dir=str(output / f"seed-{seed}"),
        overwrite_output_dir=True,  # what is there is of a killed run of this seed
        resume_from_checkpoint=resume,
        hub_model_id=f"{hub}-seed-{seed}" if arguments.push_to_hub else None,
    )


def _on_main(state: PartialState, work: Callable[[], Any]) -> Any:
    """What the main process finds, for all of them; or the error that it meets, raised in each."""
    found: list[Any] = [None, None]
    if state.is_main_process:
        try:
            found[0] = work()
        except ValueError as error:
            found[1] = error
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]


def _ended(arguments: JointTrainingArguments) -> dict[int, dict]:
    """The results of the seeds that are trained; none of those that are to be overwritten, whose results go."""
    ended = {}
    for seed in range(arguments.seed, arguments.seed + (arguments.seeds or 1)):
        flags = of_seed(arguments, seed)
        folder = Path(flags.output_dir)
        if not (folder / RESULTS).is_file():
            continue
        if arguments.overwrite_output_dir:
            (folder / RESULTS).unlink()
            continue
        wanted, saved = run_recipe(flags), read_saved_recipe(folder) or {}
        fitted = ("batch_size", "gradient_accumulation_steps") if flags.auto_batch_size else ()
        if other := [n for n in wanted if n in saved and n not in fitted and wanted[n] != saved[n]]:
            changed = "; ".join(f"{name} was {saved[name]!r}, is {wanted[name]!r}" for name in other)
            raise ValueError(
                f"{folder / RECIPE} is of other flags: {changed}; choose another output_dir, or train all seeds anew"
                " with --overwrite_output_dir true"
            )
        ended[seed] = read_json(folder / RESULTS)
    return ended


def summarise_seeds(found: Mapping[int, Mapping]) -> dict:
    """What figures come to over seeds.

    Args:
        found: seed -> what its `all_results.json` holds.

    Returns:
        `seeds`, and `figures`: of each number that all of them have, under the names that it has there, `mean`;
        `deviation`, the standard deviation of one seed's figure; and `interval`, the ends of the 95 % interval of the
        mean (Student's t). The last two are None of one seed. They tell of seeds; `test_intervals` of each run of
        users.

    Raises:
        ValueError: if they are of different splits.
    """
    splits = {seed: results.get("test_corpus") for seed, results in found.items()}
    first, *others = splits
    if other := [seed for seed in others if splits[seed] != splits[first]]:
        raise ValueError(
            f"seed {first} was evaluated on {splits[first]}, seed {other[0]} on {splits[other[0]]}; evaluate all of"
            " them on one, with --do_train false"
        )
    return {"seeds": list(found), "figures": _aggregated(list(found.values()))}


def _aggregated(trees: Sequence[Mapping]) -> dict:
    found = {}
    for name in trees[0]:
        values: list[Any] = [tree.get(name) for tree in trees]
        if all(isinstance(value, Mapping) for value in values):
            if inner := _aggregated(values):
                found[name] = inner
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            found[name] = _statistics(values)
    return found


def _statistics(values: Sequence[float]) -> dict:
    mean, number = statistics.mean(values), len(values)
    if number == 1:
        return {"mean": mean, "deviation": None, "interval": None}
    deviation = statistics.stdev(values)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, number - 1)) * deviation / number**0.5
    return {"mean": mean, "deviation": deviation, "interval": [mean - reach, mean + reach]}


def _report(summary: Mapping, output: Path, seeds: Sequence[int]) -> None:
    schema = MMProfileConfig.from_pretrained(output / f"seed-{seeds[0]}").profile_schema
    f1, several = summary["figures"]["test_f1"], len(seeds) > 1
    means = {row: {key: found["mean"] for key, found in columns.items()} for row, columns in f1.items()}
    ends = {row: {key: found["interval"] for key, found in columns.items()} for row, columns in f1.items()}
    of = f"Mean Macro-F1 of {len(seeds)} seeds, in percent{', and 95 % intervals of the mean' * several}"
    told.info(f"\n{of}:\n\n{format_table(means, schema, ends if several else None)}\n")
    for row, columns in f1.items():
        if several:
            told.info(f"{row}: a seed's average deviates by {columns['average']['deviation']:.2f} points")
    told.info(f"\nWritten to {output / SEEDS}")
