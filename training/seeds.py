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
from accelerate.utils import release_memory
from scipy.stats import t

from cli.logs import told
from files.output_files import UNFINISHED, only_run, read_json, write_json
from mmprofile import MMProfileConfig
from publishing.run_files import ALL_RESULTS, RECIPE
from scoring.bootstrap import CONFIDENCE
from scoring.reporting import format_table
from training.agreement import StoppedRun, on_main
from training.arguments import JointTrainingArguments
from training.checkpoints import list_checkpoints
from training.results import describe_corpus
from training.resuming import EARLY
from training.run_recipe import read_saved_recipe, run_recipe
from training.set_up import make_uploader

SEEDS = "seeds.json"
IN_SPLIT = ("dataset", "config", "split", "users")  # what of `test_corpus` says which users were evaluated


def run_seeds(arguments: JointTrainingArguments, run: Callable[[JointTrainingArguments], dict]) -> dict:
    """Has `run` train each seed in a folder of its own, `output_dir/seed-N`, and writes `output_dir/seeds.json` after
    each. A run that has ended is not trained again; one that was stopped goes on from its checkpoint, or without one
    begins anew.

    Nothing of a run is left to the next but the process group: torch, numpy and Python draw from its own seed, and
    Accelerate's state is made anew. Each is, bit for bit, the run of that seed alone.

    Returns:
        What `seeds.json` holds, see `summarise_seeds`.

    Raises:
        ValueError: if a run that has ended there had other flags, or a folder holds what is of no run of these.
        SystemExit: where a signal stops one of them.
    """
    state = PartialState(cpu=not torch.accelerator.is_available())  # as train.py has it
    output, summary = Path(arguments.output_dir), {}
    with only_run(output) if state.is_main_process else nullcontext():
        ended, begun = on_main(state, lambda: _found(arguments)) if arguments.do_train else ({}, {})
        seeds = _seeds(arguments)
        for seed in ended if arguments.push_to_hub else ():
            _push(of_seed(arguments, seed), state)
        found = {}
        for seed in seeds:
            if seed not in ended:
                release_memory()
                AcceleratorState._reset_state()
                try:
                    ended[seed] = run(of_seed(arguments, seed, **begun.get(seed, {})))
                except StoppedRun as stopped:
                    again = ", without --overwrite_output_dir true," if arguments.overwrite_output_dir else ""
                    raise SystemExit(
                        f"train.py: seed {seed} was stopped by {stopped.signal}, behind {stopped.checkpoint}; the same"
                        f" command{again} goes on from there"
                    ) from None
            found[seed] = ended[seed]
            summary = summarise_seeds(found)
            if state.is_main_process:
                write_json(output / SEEDS, summary)
    if state.is_main_process:
        _report(summary, output, seeds)
    return summary


def _seeds(arguments: JointTrainingArguments) -> range:
    return range(arguments.seed, arguments.seed + (arguments.seeds or 1))


def of_seed(arguments: JointTrainingArguments, seed: int, **begun) -> JointTrainingArguments:
    """The flags of the run of one seed; `begun` are those of `_beginning`."""
    output = Path(arguments.output_dir)
    hub = arguments.hub_model_id or output.resolve().name
    return dataclasses.replace(
        arguments,
        seed=seed,
        seeds=None,
        output_dir=str(output / f"seed-{seed}"),
        hub_model_id=f"{hub}-seed-{seed}" if arguments.push_to_hub else None,
        **begun,
    )


def _found(arguments: JointTrainingArguments) -> tuple[dict[int, dict], dict[int, dict]]:
    """The results of the seeds that are trained, and how the runs of the others begin. Of seeds that are to be
    overwritten the results go.

    Raises:
        ValueError: as `_check_flags`, `_check_split` and `_beginning`.
    """
    ended, begun = {}, {}
    if arguments.overwrite_output_dir:
        (Path(arguments.output_dir) / SEEDS).unlink(missing_ok=True)
    for seed in _seeds(arguments):
        flags = of_seed(arguments, seed)
        results = Path(flags.output_dir) / ALL_RESULTS
        if arguments.overwrite_output_dir:
            results.unlink(missing_ok=True)
        elif results.is_file():
            _check_flags(flags)
            ended[seed] = read_json(results)
        else:
            begun[seed] = _beginning(flags)
    if begun:
        for seed, results in ended.items():
            _check_split(seed, results.get("test_corpus") or {}, arguments)
    return ended, begun


def _check_split(seed: int, corpus: Mapping, arguments: JointTrainingArguments) -> None:
    """Raises a `ValueError`, before others are trained, if a seed was evaluated on another split than these are."""
    wanted = {"split": arguments.test_split} | describe_corpus(arguments)
    if [name for name in IN_SPLIT if name in wanted and corpus.get(name) != wanted[name]]:
        raise ValueError(
            f"seed {seed} was evaluated on {dict(corpus)}, the others would be on {wanted}; evaluate that seed there"
            " first, with --do_train false"
        )


def _push(flags: JointTrainingArguments, state: PartialState) -> None:
    """Has the Hub hold the folder of a run that has ended, which may have been killed before its last push."""
    uploader = make_uploader(flags, state)
    if uploader:
        for checkpoint in list_checkpoints(Path(flags.output_dir))[-1:]:
            uploader.hold(checkpoint)
        told.info(str(uploader.finish()))


def _beginning(flags: JointTrainingArguments) -> dict[str, Any]:
    """The flags by which the run of a seed goes on from its checkpoint; or, if it was killed before it had one, begins
    anew in its folder.

    Raises:
        ValueError: if that folder holds files of something else.
    """
    folder, resume = Path(flags.output_dir), flags.resume_from_checkpoint or ("auto" if flags.save_steps else None)
    if list_checkpoints(folder):
        return {"resume_from_checkpoint": "auto"}
    held = {path.name for path in folder.glob("*") if not path.name.startswith(UNFINISHED)}
    if RECIPE in held:
        _check_flags(flags)
    elif held - EARLY:
        raise ValueError(
            f"{folder} holds files, {min(held - EARLY)} among them, and neither a checkpoint nor a {RECIPE} of a run"
            " of this seed; choose another output_dir, or train all seeds anew with --overwrite_output_dir true"
        )
    in_the_way = held - EARLY if resume else held  # a run that goes on keeps what its trackers wrote
    return {"resume_from_checkpoint": resume, "overwrite_output_dir": bool(in_the_way)}


def _check_flags(flags: JointTrainingArguments) -> None:
    """Raises a `ValueError` if the run in an output folder had other flags."""
    folder = Path(flags.output_dir)
    wanted, saved = run_recipe(flags), read_saved_recipe(folder) or {}
    fitted = ("batch_size", "gradient_accumulation_steps") if flags.auto_batch_size else ()
    if other := [n for n in wanted if n in saved and n not in fitted and wanted[n] != saved[n]]:
        changed = "; ".join(f"{name} was {saved[name]!r}, is {wanted[name]!r}" for name in other)
        raise ValueError(
            f"{folder / RECIPE} is of other flags: {changed}; choose another output_dir, or train all seeds anew"
            " with --overwrite_output_dir true"
        )


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
    splits = {seed: results.get("test_corpus") or {} for seed, results in found.items()}
    first, *others = splits
    if other := [n for n in others if any(splits[n].get(name) != splits[first].get(name) for name in IN_SPLIT)]:
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
