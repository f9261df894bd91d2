"""Profiles of a whole dataset, with probabilities, in one process or many.

    accelerate launch predict.py --model org/mmprofile --dataset org/corpus --split test --output out --evaluate
    accelerate launch predict.py --model outputs/quickstart --dataset users.jsonl --output out
    python predict.py --model outputs/quickstart --dataset outputs/corpus --split test --show 1
    accelerate launch predict.py recipe.yaml --output out

A recipe is a YAML file of flags; those of the command line win over it.
Two processes without a GPU: ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 predict.py ...

A JSONL file has a line for each user:

    {"user_id": "u1", "reviews": ["Good pizza.", "..."], "images": ["photos/1.jpg"], "captions": ["a pizza"]}

Paths are relative to the file; absolute ones and `..` are taken on purpose, so run no stranger's file. `images`,
`captions` and `profile`, the true one as the model writes it (`{"stars": "4", ...}`), may be left out. A review may be
an object with photos of its own, `{"text": "Good pizza.", "images": ["photos/1.jpg"], "captions": ["a pizza"]}`. A
corpus, or a Parquet file, has a row for each user, as train.py reads it; reviews stand newest first. A model sees of a
user what it was trained to see (`MMProfileConfig.sees`), and reads the whole history, as many reviews at a time as its
configuration says (`view_reviews`): the profile is that of all of these views together. `--views 1 --num_reviews 3` is
the paper's recipe, the three newest reviews alone.

The answers are Parquet files, OUTPUT/predictions, one row a user in the input's order; a run that was killed goes on
where it stopped when it is started again. A user who cannot be predicted (no review) has a row without a profile, and
a photo that cannot be read is left out, with its caption: column `problems` says why, and the run ends with their
numbers; with `--on_bad_photo stop` it ends at the first such photo. It fails if no user at all could be predicted.
With `--update true` an output folder is brought up to date with another input: only new users and those with other
reviews, captions or photos are predicted. `--output OUTPUT --forget ID ...`, without a model, removes users from it.
Whatever is wrong with the input as a whole is said before the work starts.
"""

import sys

from cli.flags import answer_help, parse_flags
from prediction.arguments import PredictionArguments

if __name__ == "__main__":  # --help is there before what takes seconds to import
    answer_help(PredictionArguments, __doc__)

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, gather_object
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from cli.progress import log_progress
from files.checkpoint_code import load_model, load_processor
from files.checkpoint_files import checkpoint_folder, exact_revision, file_digests, set_config_fields
from files.output_files import WriteFailure, only_run, read_json, write_json
from mmprofile import MOST_VIEWS, ProfileSchema, Sees, check_decision, photo_weights, seen_by
from prediction.batches import (
    EncodedUser,
    EncodedUsers,
    PredictionBatch,
    PredictionCollator,
    batch_parts,
    bucketed_batches,
    join_parts,
)
from prediction.encodings import KeptEncodings
from prediction.flat import write_table
from prediction.forgetting import finish_forgetting, forget_users
from prediction.inputs import NUM_REVIEWS, DatasetUsers, LineUsers, open_users
from prediction.linear import fast_linears
from prediction.notes import model_notes
from prediction.side_by_side import side_by_side
from prediction.store import COUNTED, RESULTS, RUN, TABLE, PredictionFolder, count_rows
from prediction.text import describe
from prediction.updating import Update, mend
from scoring.evaluation import answers_of, check_bounds
from scoring.predictions import draw_scores, format_scores, score_rows
from scoring.temperature import FITTED_ON, fit_by_views, fitted_table

SHOWN_PROBLEMS = 5


# ---------------------------------------------------------------------------------------------------------------------
# Input


def check_input(users: DatasetUsers | LineUsers, sees: Sees, arguments: PredictionArguments) -> None:
    """Raises a `ValueError` where the users cannot be what was asked for, and says what the model will miss."""
    for name in ("evaluate", "calibrate"):
        if getattr(arguments, name) and not users.has_profiles:
            raise ValueError(f"--{name} needs the true profile of every user, and the input has not got it")
    if isinstance(users, LineUsers) and sees.images:
        users.look_for_photos()
    if sees.captions and not users.has_captions:
        print("the model was trained with captions, and the input has none", file=sys.stderr)


def describe_run(arguments: PredictionArguments, revision: str | None, users: DatasetUsers | LineUsers) -> dict:
    """All that the answers depend on: digests of the model's files and of what the users have, and flags."""
    files = file_digests(checkpoint_folder(arguments.model, revision), code=arguments.trust_remote_code)
    names = ("dtype", "shard_users", *arguments.search, "num_reviews", "num_images", "views")
    names += tuple(name for name in ("draws", "vectors", "calibrate") if getattr(arguments, name))
    flags = {name: getattr(arguments, name) for name in names}
    return {f"model's {name}": digest for name, digest in files.items()} | {"users": users.digest()} | flags


def views_read(arguments: PredictionArguments, config) -> int | None:
    """Of each user, at most; None: as many as the history has, however long it is."""
    if arguments.views is None:
        return MOST_VIEWS if hasattr(config, "view_reviews") else 1  # others make no profile of several
    return None if arguments.views == "all" else arguments.views


def _draws(arguments: PredictionArguments, views: int | None) -> int:
    if arguments.draws and views == 1:
        raise ValueError(f"--draws {arguments.draws} is of a history in several views, and here it is one")
    return arguments.draws


def read_batches(
    users,
    batches: Sequence[list[int]],
    processor,
    sees: Sees,
    num_workers: int,
    on_bad_photo: str = "skip",
    encodings: KeptEncodings | None = None,
) -> Iterator[PredictionBatch]:
    """Batches in the order given, read and decoded by the workers while the device computes: two batches ahead, or two
    parts a worker."""
    parts, ahead = batch_parts(batches), 2 * len(batch_parts(batches[:1]))
    encoded = EncodedUsers(users, processor, sees, on_bad_photo, encodings)
    loader = DataLoader(
        encoded,
        batch_sampler=parts,
        collate_fn=PredictionCollator(processor),
        num_workers=num_workers,
        prefetch_factor=max(2, math.ceil(ahead / num_workers)) if num_workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    return join_parts(loader, batches, encoded.table)


# ---------------------------------------------------------------------------------------------------------------------
# Prediction


class Clock:
    """Times a run from its making on, and how much of this it waits for the next batch."""

    def __init__(self):
        self.started, self.waiting = time.monotonic(), 0.0

    def over(self, batches: Iterable[PredictionBatch]) -> Iterator[PredictionBatch]:
        asked = time.monotonic()
        for batch in batches:
            self.waiting += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def wait_share(self) -> float:
        return self.waiting / self.seconds


def predict_rows(
    model,
    tokenizer,
    batches: Iterable[PredictionBatch],
    search: dict,
    batches_at_once: int = 1,
    encodings: KeptEncodings | None = None,
) -> Iterator[tuple[int, dict]]:
    """Each user's row number in the input and its columns, see `prediction.store.arrow_schema`, batch after batch."""

    def answers_to(batch: PredictionBatch) -> list[dict]:
        if not batch.users:
            return []
        with fast_linears(model.device):  # in this thread: `side_by_side` has several
            views = [user.num_views for user in batch.users]
            options = search | {"views": views} if max(views) > 1 else search
            inputs = batch.joined_inputs(tokenizer.pad_token_id, model.device)
            if encodings is not None:
                inputs = encodings.encode(model, batch.users, inputs)
                options = options | {"encoder_outputs": inputs.pop("encoder_outputs")}
            return answers_of(model, tokenizer, inputs, **options)

    for batch, answers in side_by_side(answers_to, batches, model.device, batches_at_once):
        for user, answer in zip(batch.users, answers, strict=True):
            yield user.index, columns_of(user, answer)
        for user in batch.failed:
            yield user.index, columns_of(user, {})


def columns_of(user: EncodedUser, answer: dict) -> dict:
    """A user's row; an empty answer stands for none, one with an `error` for what is the user's problem then."""
    problems = user.problems
    if "error" in answer:
        problems, answer = [*problems, answer["error"]], {}
    weights = answer.get("image_weights")
    if weights is not None:
        weights = photo_weights(user.positions, weights, user.num_images)
    views = user.num_views if answer else None
    notes = {"truth": user.profile, "photos_left_out": user.photos_left_out, "tokens_left_out": user.tokens_left_out}
    return answer | {"image_weights": weights, "views": views, "problems": problems} | notes


def write_predictions(
    rows: Iterator[tuple[int, dict]], folder: PredictionFolder, shards: Sequence[int], clock: Clock, name: str | None
) -> None:
    """Writes shards as they are finished; rows come shard after shard.

    Args:
        name: of the progress bar; None for no bar.
    """
    total = sum(len(folder.shards[shard]) for shard in shards)
    unwritten, found = list(shards), {}
    with tqdm(total=total, unit=" users", desc=name, disable=name is None) as progress:
        for index, columns in rows:
            found[index] = columns
            if len(found) == len(folder.shards[unwritten[0]]):
                folder.write(unwritten.pop(0), found)
                found = {}
            progress.set_postfix_str(f"waiting for input {clock.wait_share:.0%}", refresh=False)
            progress.update()


# ---------------------------------------------------------------------------------------------------------------------
# Output


def summarise(folder: PredictionFolder, measured: list[tuple[int, float, float]], device: torch.device) -> dict:
    """Numbers of the run, from its folder and each process' users, seconds and share of waiting."""
    users, seconds = sum(m[0] for m in measured), max(m[1] for m in measured)
    return count_rows(folder.read(COUNTED)) | {
        "users_this_time": users,
        "seconds": seconds,
        "users_per_second": users / seconds if users else None,
        "input_wait_share": sum(m[2] for m in measured) / len(measured),
        "num_processes": len(measured),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def report(folder: PredictionFolder, results: dict) -> None:
    """Prints what was done, and the first problems."""
    speed = f"{results['users_this_time']} of them now"
    if results["users_this_time"]:
        speed += f" in {results['seconds']:.1f} s, {results['users_per_second']:.1f} users/s"
        speed += f", {results['input_wait_share']:.1%} of the time waiting for input"
    print(f"{results['predicted']} of {results['users']} users predicted, {speed}. Written to {folder.folder}")
    if results["texts_shortened"]:
        print(f"{results['texts_shortened']} users' texts were too long and shortened (column tokens_left_out)")
    if results["not_predicted"] or results["photos_left_out"]:
        print(f"{results['not_predicted']} users without a prediction, {results['photos_left_out']} photos left out:")
        print("\n".join(first_problems(folder)))


def first_problems(folder: PredictionFolder) -> list[str]:
    lines = []
    for row in folder.read(["user_id", "text", "photos_left_out", "problems"]):
        if row["text"] is not None and not row["photos_left_out"]:
            continue
        lines += [f"  {row['user_id']}: {problem}" for problem in row["problems"]]
        if len(lines) > SHOWN_PROBLEMS:
            return [*lines[:SHOWN_PROBLEMS], "  ..."]
    return lines


def evaluate_predictions(folder: PredictionFolder, schema: ProfileSchema, name: str, of: str) -> dict:
    """Scores the folder's predictions, see `score_rows`, prints the table and draws the figures.

    Args:
        name: of the model, in the table.
        of: whose profiles were predicted, in the figures.

    Raises:
        ValueError: if a user's true profile is not known.
    """
    rows = list(folder.read(["profile", "probabilities", "truth"]))
    if unknown := sum(row["truth"] is None for row in rows):
        raise ValueError(f"--evaluate needs every true profile, {unknown} of {len(rows)} are not valid")
    found = score_rows(rows, schema)
    draw_scores(rows, found, schema, folder.folder, of)
    print(f"\n{format_scores(found, schema, name)}")
    return found


def calibrate_model(folder: PredictionFolder, schema: ProfileSchema, model: Path, combination: str) -> dict:
    """Fits temperatures and thresholds on the folder's predictions and puts them into the model's config.json, beside
    those of other numbers of views and combinations; shows and returns them.

    Args:
        schema: of the profiles.
        model: the folder.
        combination: of the views.
    """
    rows = [row for row in folder.read(FITTED_ON) if row["truth"] is not None]
    fitted = fit_by_views(rows, schema)
    table = fitted_table(rows, schema, fitted)
    known = read_json(model / "config.json").get("calibrations") or {}
    by_views = known.get(combination, {}) | fitted
    set_config_fields(model, {"calibrations": known | {combination: by_views}})
    print(f"\nFitted on {len(rows)} users, and written to {model / 'config.json'}:\n\n{table}")
    return {"fitted": {combination: fitted}}


# ---------------------------------------------------------------------------------------------------------------------


def _seen_by(config) -> Sees:
    """Of a checkpoint, whose code may know objectives of its own, or be older than `sees`."""
    return config.sees if hasattr(config, "sees") else seen_by(config)


def forget(output: str, ids: Sequence[str]) -> dict:
    """Removes users from a folder of predictions; returns what stands in its `results.json`, or {}."""
    if not (Path(output) / RUN).is_file():
        raise ValueError(f"{output} holds no predictions of predict.py")
    with only_run(output):
        results = forget_users(output, ids)
    print(f"{len(set(ids))} users removed from {output}")
    return results


def main(argv: Sequence[str] | None = None) -> dict:
    """Predicts, writes and shows; returns what stands in the output folder's `results.json`, or {} without one."""
    arguments = parse_flags(PredictionArguments, argv, __doc__)
    if arguments.forget:
        assert arguments.output is not None
        return forget(arguments.output, arguments.forget)
    log_progress()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans for each new shape, and each call has its own
    # A process waits for the others at the end, however long they take.
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=7))])

    with accelerator.main_process_first():
        revision = exact_revision(arguments.model, arguments.model_revision)
        processor, config = load_processor(arguments.model, revision, arguments.trust_remote_code)
        schema, sees = ProfileSchema(processor.profile_schema), _seen_by(config)
        views = views_read(arguments, config)
        users = open_users(
            arguments.dataset,
            arguments.dataset_config,
            arguments.split,
            schema,
            arguments.num_reviews,
            arguments.num_images,
            arguments.dataset_revision,
            views,
            getattr(config, "view_reviews", NUM_REVIEWS),
            _draws(arguments, views),
        )
        if accelerator.is_main_process:
            check_input(users, sees, arguments)
        model = load_model(arguments.model, revision, arguments.trust_remote_code, arguments.dtype)
    asked = arguments.search | arguments.told
    check_bounds(model, asked if views == 1 else asked | {"views": arguments.views})
    if arguments.keep_encodings and not hasattr(model, "encode"):
        raise ValueError(f"--keep_encodings is of models that encode, {arguments.model!r} has no encoder of its own")
    combination = arguments.combination or getattr(model.config, "combination", "product")
    if arguments.decisions:
        calibrations = getattr(model.config, "calibrations", None)
        check_decision(calibrations, combination, arguments.decision, arguments.min_precision)
    if arguments.calibrate and not hasattr(model.config, "calibrations"):
        raise ValueError("--calibrate is for mmprofile's own models, by code that has calibrations")
    if arguments.calibrate:  # on the model's own probabilities
        model.config.calibrations = None
    model = model.to(accelerator.device).eval()

    if arguments.output is None:
        shown = range(min(arguments.show, len(users)))
        batches = list(bucketed_batches(users.lengths, shown, arguments.batch_size, users.view_counts))
        read = read_batches(users, batches, processor, sees, 0, arguments.on_bad_photo)
        rows = dict(predict_rows(model, processor.tokenizer, read, arguments.search))
        if accelerator.is_main_process:
            print("\n\n".join(describe(users[index], rows[index], schema) for index in shown))
        return {}

    with only_run(arguments.output) if accelerator.is_main_process else nullcontext():
        return predict_to_folder(arguments, accelerator, model, revision, processor, users)


def predict_to_folder(
    arguments: PredictionArguments,
    accelerator: Accelerator,
    model,
    revision: str | None,
    processor,
    users: DatasetUsers | LineUsers,
) -> dict:
    """What one process does of `main` where there is an output folder; `revision` is the model's, None of a folder."""
    schema, sees = users.schema, _seen_by(model.config)
    assert arguments.output is not None
    run, updates, digests = {}, False, None
    vector_size = model.config.text_config.d_model if arguments.vectors else None
    if accelerator.is_main_process:
        mend(arguments.output)
        finish_forgetting(arguments.output)
        run, digests = describe_run(arguments, revision, users), users.digests()
        updates = arguments.update and (Path(arguments.output) / RUN).exists()
        PredictionFolder(arguments.output, schema, users.ids, arguments.shard_users, vector_size).begin(
            run, arguments.overwrite_output, updates
        )
    run, updates, digests = broadcast_object_list([run, updates, digests])
    folder = PredictionFolder(arguments.output, schema, users.ids, arguments.shard_users, vector_size, digests)
    folder.notes = model_notes(arguments.model, revision, schema, run)
    update = Update(folder) if updates else None
    new = folder if update is None else update.new_rows(accelerator.num_processes)
    pending = new.pending()
    accelerator.wait_for_everyone()  # all have looked before anyone writes
    mine = pending[accelerator.process_index :: accelerator.num_processes]
    size, views = arguments.batch_size, users.view_counts
    batches = [b for s in mine for b in bucketed_batches(users.lengths, new.shards[s], size, views)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    num_workers = arguments.num_workers
    if num_workers is None:
        num_workers = max(1, cores // accelerator.num_processes - 1)
    encodings = KeptEncodings(arguments.output, run) if arguments.keep_encodings else None
    read = read_batches(users, batches, processor, sees, num_workers, arguments.on_bad_photo, encodings)
    at_once = arguments.batches_at_once or (2 if accelerator.device.type == "cuda" else 1)
    clock = Clock()
    asked = arguments.search | arguments.told
    rows = predict_rows(model, processor.tokenizer, clock.over(read), asked, at_once, encodings)
    name = "predicting" if accelerator.num_processes == 1 else f"process 1 of {accelerator.num_processes}"
    write_predictions(rows, new, mine, clock, name if accelerator.is_main_process else None)

    measured = gather_object([(sum(map(len, batches)), clock.seconds, clock.wait_share)])
    results = {}
    if accelerator.is_main_process:
        results = {name: folder.notes[name] for name in ("model", "revision")}
        if update is not None:
            results |= update.finish(run, users.profiles(), arguments.gone == "keep", datetime.now(UTC))
        results |= summarise(folder, measured, accelerator.device)
        report(folder, results)
        if arguments.flat or (folder.folder / TABLE).is_dir():  # one that stands there keeps up
            write_table(folder.folder)
        if arguments.evaluate and results["predicted"]:
            split = "" if Path(arguments.dataset).is_file() else f", {arguments.split} split"
            of = f"{Path(arguments.dataset).name}{split}, {len(users)} users"
            results |= evaluate_predictions(folder, schema, Path(arguments.model).name, of)
        if arguments.calibrate and results["predicted"]:
            combination = arguments.combination or model.config.combination
            results |= calibrate_model(folder, schema, Path(arguments.model), combination)
        write_json(folder.folder / RESULTS, results)
        for index, row in zip(range(arguments.show), folder.read(), strict=False):
            print(f"\n{describe(users[index], row, schema)}")
        if not results["predicted"]:
            raise ValueError(f"none of {len(users)} users could be predicted:\n" + "\n".join(first_problems(folder)))
    accelerator.end_training()
    return results


if __name__ == "__main__":
    try:
        main()
    except (ValueError, WriteFailure) as error:
        sys.exit(f"predict.py: {error}")
