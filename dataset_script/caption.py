"""Fills the column `captions` of a corpus: BLIP-2 describes each photo once, however many users share it.

    accelerate launch dataset_script/caption.py --dataset outputs/yelp --output outputs/yelp-captioned
    accelerate launch dataset_script/caption.py --dataset outputs/yelp --output outputs/yelp --overwrite_output
    python -m dataset_script.caption --dataset outputs/yelp --output outputs/people --source photo_captions
    accelerate launch dataset_script/caption.py recipe.yaml

A recipe is a YAML file of flags; those of the command line win over it.
Two processes without a GPU: ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 dataset_script/caption.py ...

DATASET is a folder with Parquet files, as the builder writes it: `reviews` is a list in which each review has
`photo_ids`, `images` (each `bytes`), `photo_captions` and `captions`, a list each, with one entry a photo. MODEL is a
BLIP-2 of the Hub, with --revision a branch, tag or commit of it, or a folder.

The output is a new folder, the corpus with captions and a card that says who wrote them; all else stays byte for byte.
It appears when it is whole. Until then captions are kept in `.OUTPUT.captioning` beside it, for all processes of all
machines, which share the file system: a run that was killed goes on where it stopped when it is started again, with as
many processes as you like. OUTPUT may be DATASET itself with --overwrite_output, and is replaced at the end.

Photos are told apart by their `photo_id`. One that cannot be read has no caption, and is counted and reported. What
stands in `captions` before is replaced. `--source photo_captions` takes what people wrote under their photos instead,
and needs no model.
"""

# ruff: noqa: E402

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:  # `accelerate launch` looks for modules beside this file alone
    sys.path.insert(0, ROOT)

from cli.flags import answer_help, parse_flags
from dataset_script.captions.arguments import CaptionArguments

if __name__ == "__main__":  # --help is there before what takes seconds to import
    answer_help(CaptionArguments, __doc__)

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from tqdm.auto import tqdm

from cli.progress import log_progress
from dataset_script.captions.captioner import FOLDER_REVISION, Captioner, PhotoBatches, caption_rows, identify_model
from dataset_script.captions.store import (
    CARD,
    CaptionRun,
    Fill,
    Survey,
    caption_bytes,
    corpus_files,
    fill_from,
    fill_from_people,
    find_shards,
    survey_photos,
    write_shard,
)
from dataset_script.profile_rules import where_no_yaml

# Around the card's section on captions, for the next run to replace it.
SECTION = ("<!-- captions -->", "<!-- /captions -->")
SHOWN_PROBLEMS = 5


# ---------------------------------------------------------------------------------------------------------------------
# Captioning


def check_folders(dataset: Path, output: Path, overwrite: bool) -> None:
    """Raises a `ValueError` where `output` cannot become the captioned corpus of `dataset`."""
    read_card(dataset)
    corpus, target = dataset.resolve(), output.resolve()
    if corpus != target and (target.is_relative_to(corpus) or corpus.is_relative_to(target)):
        raise ValueError(f"output must be a folder apart from the dataset {dataset}, got {output}")
    if not os.path.lexists(output):
        return
    if not overwrite:
        raise ValueError(f"output must not exist unless --overwrite_output is given, got {output}")
    has_shards = any(path.suffix == ".parquet" for path in corpus_files(output))
    if output.is_symlink() or not (output / CARD).is_file() or not has_shards:
        raise ValueError(f"--overwrite_output replaces a corpus, a folder with {CARD} and Parquet files, not {output}")


def caption_photos(
    arguments: CaptionArguments, accelerator, run: CaptionRun, survey: Survey, pending: np.ndarray, shards: list[Path]
) -> float:
    """Captions this process' share of the `pending` photos of the survey, and writes them to the run's journal.

    Returns:
        The seconds that all processes took for theirs, without the loading of the model.
    """
    from torch.utils.data import DataLoader

    mine = np.array_split(pending, accelerator.num_processes)[accelerator.process_index]
    with accelerator.local_main_process_first():  # which fetches the model for the others
        captioner = Captioner(arguments, run.settings()["revision"], accelerator.device) if len(mine) else None
    accelerator.wait_for_everyone()
    started = time.monotonic()
    if captioner:
        workers = default_workers() if arguments.num_workers is None else arguments.num_workers
        batches: Any = PhotoBatches(shards, survey, mine, captioner.processor.image_processor, arguments)
        pin = accelerator.device.type == "cuda"
        loader = DataLoader(batches, batch_size=None, num_workers=workers, pin_memory=pin)
        name = "captioning" if accelerator.num_processes == 1 else f"process 1 of {accelerator.num_processes}"
        bar = tqdm(total=len(mine), desc=name, unit=" photos", disable=not accelerator.is_main_process)
        with bar, run.journal(accelerator.process_index) as write:
            for rows in caption_rows(captioner, loader):
                write(rows)
                bar.update(len(rows))
    accelerator.wait_for_everyone()
    return time.monotonic() - started


def default_workers() -> int:
    """This process' part of the machine's cores, but one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1)


# ---------------------------------------------------------------------------------------------------------------------
# Output


def write_corpus(dataset: Path, run: CaptionRun, shards: Sequence[Path], fill: Fill, process: int = 0, of: int = 1):
    """Writes this process' share of the shards that are not yet written."""
    pending = [shard for shard in shards[process::of] if not (run.corpus / shard).exists()]
    for shard in tqdm(pending, "writing", unit=" shards", disable=process > 0):
        write_shard(dataset / shard, run.corpus / shard, run.scratch(process), fill)


def finish_corpus(dataset: Path, run: CaptionRun, shards: Sequence[Path], section: str) -> None:
    """Adds what is not a shard, the card with its section on captions, and publishes the corpus."""
    for path in set(corpus_files(dataset)) - set(shards):
        (run.corpus / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dataset / path, run.corpus / path)
    card = read_card(dataset)
    update_sizes(card, dataset, run.corpus)
    before, _, rest = card.text.partition(SECTION[0])
    after = rest.partition(SECTION[1])[2]
    card.text = "\n".join([before.rstrip("\n"), "", SECTION[0], "## Captions", "", section, SECTION[1] + after]) + "\n"
    card.save(run.corpus / CARD)
    run.publish()


def read_card(corpus: Path) -> huggingface_hub.DatasetCard:
    path = corpus / CARD
    try:
        return huggingface_hub.DatasetCard(path.read_text(encoding="utf-8") if path.exists() else "")
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no dataset card: {where_no_yaml(error)}") from None
    except ValueError as error:
        wrong = where_no_yaml(error) if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"{path} is no dataset card: {wrong}") from None


def update_sizes(card: huggingface_hub.DatasetCard, dataset: Path, corpus: Path) -> None:
    """Corrects the bytes that the metadata counts, where a card has them as the builder writes them."""
    configs = {config["config_name"]: config.get("data_files") for config in card.data.get("configs") or []}
    infos = card.data.get("dataset_info") or []
    for info in [infos] if isinstance(infos, dict) else infos:
        entries = configs.get(info.get("config_name", "default"))
        patterns = {entry["split"]: entry["path"] for entry in entries or () if isinstance(entry, dict)}
        names = {split["name"] for split in info.get("splits", ())}
        if not names <= {split for split, path in patterns.items() if isinstance(path, str)}:
            continue
        shards = {name: list(corpus.glob(patterns[name])) for name in names}
        for split in info["splits"]:
            for shard in shards[split["name"]]:
                split["num_bytes"] += caption_bytes(shard) - caption_bytes(dataset / shard.relative_to(corpus))
        info["dataset_size"] = sum(split["num_bytes"] for split in info["splits"])
        info["download_size"] = sum(shard.stat().st_size for paths in shards.values() for shard in paths)


def describe_model(settings: dict, results: dict) -> str:
    """The card's section on a captioner: which it was, and what it was asked."""
    name, revision = settings["model"], settings["revision"]
    on_hub = not revision.startswith(FOLDER_REVISION)
    link = f"[{name}](https://huggingface.co/{name}/tree/{revision})" if on_hub else f"`{name}`"
    weights = "8 bits" if settings["load_in_8bit"] else settings["dtype"]
    prompt = f"the prompt {settings['prompt']!r}" if settings["prompt"] else "no prompt"
    size = settings["no_repeat_ngram_size"]
    once = f", no sequence of {size} tokens twice" if size else ""
    return (
        f"`captions` were written by the model {link}, revision `{revision}` ({weights}, {prompt},"
        f" {settings['num_beams']} beams, at most {settings['max_new_tokens']} new tokens{once}), one for each of"
        f" {results['captioned']:,} photos; {results['broken']:,} photos that could not be read have none, nor have"
        f" {results['empty']:,} of which the model wrote nothing. {describe_sameness(results)}"
    )


def describe_sameness(results: dict) -> str:
    share = 100 * results["equal_or_empty_share"]
    return f"{share:.1f} % of what it wrote is empty or equal to the caption of another photo."


def summarise(run: CaptionRun, captions: pa.Table, seconds: float, before: int, processes: int) -> dict:
    """Numbers of the run; `before` photos were done when it started.

    A photo is `captioned`, `empty` where the model wrote nothing, or `broken`; `equal` are captions that another photo
    has as well, and `equal_or_empty_share` is of all that the model wrote.
    """
    now, texts = len(captions) - before, captions["caption"].drop_null()
    times = Counter(texts.to_pylist())
    empty = times.pop("", 0)
    equal = sum(count for count in times.values() if count > 1)
    return {
        "photos": len(captions),
        "captioned": len(texts) - empty,
        "empty": empty,
        "equal": equal,
        "equal_or_empty_share": (equal + empty) / max(1, len(texts)),
        "broken": captions["caption"].null_count,
        "photos_this_time": now,
        "seconds": seconds,
        "photos_per_second": now / seconds if now else None,
        "num_processes": processes,
        "revision": run.settings()["revision"],
    }


def report(results: dict, captions: pa.Table, output: Path) -> None:
    speed = f"{results['photos_this_time']} of them now"
    if results["photos_this_time"]:
        speed += f" in {results['seconds']:.1f} s, {results['photos_per_second']:.1f} photos/s"
    print(f"{results['captioned']} of {results['photos']} photos captioned, {speed}. Written to {output}")
    if results["photos"]:
        print(f"The model wrote nothing of {results['empty']} photos; {describe_sameness(results)}")
    if results["broken"]:
        print(f"{results['broken']} photos could not be read:\n" + "\n".join(first_problems(captions)))


def first_problems(captions: pa.Table) -> list[str]:
    rows = captions.filter(captions["problem"].is_valid()).slice(0, SHOWN_PROBLEMS + 1).to_pylist()
    lines = [f"  {row['photo_id']}: {row['problem']}" for row in rows]
    return [*lines[:SHOWN_PROBLEMS], "  ..."] if len(lines) > SHOWN_PROBLEMS else lines


# ---------------------------------------------------------------------------------------------------------------------


def corpus_digest(dataset: Path, shards: Sequence[Path]) -> str:
    """Tells corpora apart, by the names and sizes of their files."""
    lines = [f"{shard.as_posix()} {(dataset / shard).stat().st_size}\n" for shard in shards]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def run_settings(arguments: CaptionArguments, dataset: Path, shards: Sequence[Path]) -> dict:
    """All that the captions of a model depend on."""
    names = ("source", "dtype", "load_in_8bit", "prompt", "num_beams", "max_new_tokens", "no_repeat_ngram_size")
    names += ("max_photo_pixels",)
    settings = {name: getattr(arguments, name) for name in names}
    folder = Path(arguments.model)
    settings["model"] = folder.resolve().name if folder.is_dir() else arguments.model  # the card tells no path
    settings["revision"] = identify_model(arguments.model, arguments.revision)
    return settings | {"corpus": corpus_digest(dataset, shards)}


def take_peoples_captions(arguments: CaptionArguments, run: CaptionRun) -> dict:
    """`--source photo_captions`."""
    dataset = Path(arguments.dataset)
    shards = find_shards(dataset)
    check_folders(dataset, run.output, arguments.overwrite_output)
    survey = survey_photos(dataset, shards)
    run.take()
    settings = {"source": arguments.source, "corpus": corpus_digest(dataset, shards)}
    run.begin(settings, arguments.overwrite_output)
    write_corpus(dataset, run, shards, fill_from_people)
    finish_corpus(dataset, run, shards, "`captions` are what people wrote under their photos, null where nothing.")
    print(f"{len(survey.ids)} photos have what people wrote under them as caption. Written to {run.output}")
    return {"photos": len(survey.ids)}


def write_captions(arguments: CaptionArguments, run: CaptionRun, accelerator) -> dict:
    """`--source blip2`, in every process."""
    main, process = accelerator.is_main_process, accelerator.process_index
    dataset = Path(arguments.dataset)
    shards = find_shards(dataset)
    check_folders(dataset, run.output, arguments.overwrite_output)
    if arguments.load_in_8bit and find_spec("bitsandbytes") is None:
        raise ValueError("--load_in_8bit needs bitsandbytes, which is not installed: pip install bitsandbytes")
    survey = survey_photos(dataset, shards)
    if main:
        settings = run_settings(arguments, dataset, shards)
        run.take()
        run.begin(settings, arguments.overwrite_output)
    accelerator.wait_for_everyone()
    if not main:
        run.take(process)

    done = run.captions()["photo_id"]
    written = pc.is_in(survey.ids, value_set=done)  # pyright: ignore[reportAttributeAccessIssue] - made at import
    pending = np.flatnonzero(~written.to_numpy(zero_copy_only=False))
    accelerator.wait_for_everyone()  # all have looked before anyone writes
    paths = [dataset / shard for shard in shards]
    seconds = caption_photos(arguments, accelerator, run, survey, pending, paths)
    captions = run.captions()
    results = summarise(run, captions, seconds, len(done), accelerator.num_processes)
    if len(captions) and not results["captioned"]:
        if results["empty"]:
            raise ValueError(
                f"the model wrote nothing of {results['empty']} photos, and {results['broken']} could not be read;"
                " is it a BLIP-2 that was trained to caption, and does --prompt fit it?"
            )
        raise ValueError(f"none of {len(captions)} photos can be read:\n" + "\n".join(first_problems(captions)))
    write_corpus(dataset, run, shards, fill_from(captions), process, accelerator.num_processes)
    accelerator.wait_for_everyone()
    if main:
        finish_corpus(dataset, run, shards, describe_model(run.settings(), results))
        report(results, captions, run.output)
    return results if main else {}


def main(argv: Sequence[str] | None = None) -> dict:
    """Captions a corpus; returns the numbers of the run, {} where there are none to tell.

    That is in all processes but the main one, and where nothing was left to do but to put the output in its place.
    """
    log_progress()
    arguments = parse_flags(CaptionArguments, argv, __doc__)
    run = CaptionRun(Path(os.path.abspath(arguments.output)))
    if arguments.source == "photo_captions":
        is_main_process = os.environ.get("RANK", "0") == "0"
        return take_peoples_captions(arguments, run) if is_main_process and not run.was_published() else {}

    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.utils import broadcast_object_list

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
    # A process waits for the others at the end, however long they take.
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=7))])
    done = broadcast_object_list([accelerator.is_main_process and run.was_published()])[0]
    results = {} if done else write_captions(arguments, run, accelerator)
    accelerator.end_training()
    return results


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"caption.py: {error}")
