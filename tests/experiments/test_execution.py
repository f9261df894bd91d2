"""Runs that are done once, side by side, and go on where they stopped."""

import json
import shutil
import threading
import time
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from experiments import execution
from experiments.execution import (
    Place,
    RunFailed,
    arguments_of,
    describe,
    do_all,
    make_corpus,
    seconds_left,
    time_left_told,
    training_processes,
    words,
)
from experiments.plan import PROFILES, SENTIMENT, TRAIN, Run, read_scale
from experiments.results import is_done, known_seconds, read_kept
from tests.experiments.kept_runs import keep_ratings, keep_run, profiles, write_ratings

TRAINED = [Run({"seed": seed}) for seed in range(3)]
EVALUATED = [Run({"num_reviews": number}, TRAINED[0]) for number in (1, 2)]
RUNS = [*TRAINED, *EVALUATED]
HELD_OUT = Run({"held_out": 2}, TRAINED[0], PROFILES)
CLASSIFIED = [Run({"classifier": name, "seed": 0}, HELD_OUT, SENTIMENT) for name in ("bert", "t5")]
CHAINS = [TRAINED[0], HELD_OUT, *CLASSIFIED]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "out", tmp_path / "results", "corpus")


@pytest.fixture
def done(place, monkeypatch):
    """Digests of runs in the order in which they are begun; a run is what `keep_run` leaves."""
    begun, at_once = [], []

    def do(run, where, trainer):
        assert run.trained is None or is_done(where.results, run.trained)
        begun.append(run.digest)
        at_once.append(threading.active_count())
        time.sleep(0.01)
        keep_run(where.results, where.folder(run), run, 0.2)

    monkeypatch.setattr(execution, "do", do)
    return begun


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_each_run_is_done_once_a_training_before_its_evaluations(place, done, jobs):
    lines = []
    do_all(RUNS, place, jobs, lines.append, 1)
    assert sorted(done) == sorted(run.digest for run in RUNS)
    assert len(lines) == 5 and lines[-1].startswith("5 of 5 runs done, 0:00 left")
    do_all(RUNS, place, jobs, lines.append, 1)
    assert len(done) == 5


def test_what_another_run_is_writing_does_not_count_among_the_known_times(place):
    for run in TRAINED:
        keep_run(place.results, place.folder(run), run, 0.2)
    (place.results / ".unfinished-1234-abcd.json").write_text("{")
    assert known_seconds(place.results) == {"mmprofile": [2.0] * len(TRAINED)}


def test_what_runs_tell_of_the_same_users_is_kept_once(place):
    for run in TRAINED:
        keep_run(place.results, place.folder(run), run, 0.2)
    (users,) = place.results.glob("users-*.parquet")
    assert pq.read_schema(users).names == ["user_id", "truth"]
    kept = [read_kept(place.results, run) for run in TRAINED]
    assert [one.truths == profiles(0) for one in kept] == [True] * 3
    pq.write_table(pq.read_table(users).slice(1), users)
    with pytest.raises(ValueError, match=r"is of 40, users-.* of 39"):
        read_kept(place.results, TRAINED[0])


def test_what_is_missing_is_done_when_it_is_started_again(place, done, monkeypatch):
    ends = execution.do

    def fails(run, where, trainer):
        if run == TRAINED[1]:
            raise RunFailed("of this one")
        ends(run, where, trainer)

    monkeypatch.setattr(execution, "do", fails)
    with pytest.raises(RunFailed, match="of this one"):
        do_all(RUNS, place, 1, lambda line: None, 1)
    assert done == [TRAINED[0].digest]
    monkeypatch.setattr(execution, "do", ends)
    do_all(RUNS, place, 1, lambda line: None, 1)
    assert len(done) == len(set(done)) == 5


def test_a_run_trains_or_evaluates_the_model_of_another(place):
    assert arguments_of(TRAINED[2], place) == [
        *("--dataset", "corpus", "--seed", "2", "--output_dir", str(place.folder(TRAINED[2]))),
        *("--save_predictions", "true", "--photo_cache", str(place.output / "photos")),
        *("--resume_from_checkpoint", "auto", "--checkpoints_total_limit", "1"),
    ]
    evaluate = arguments_of(EVALUATED[1], place)
    assert evaluate[-4:] == ["--do_train", "false", "--model", str(place.folder(TRAINED[0]))]
    assert words({"a": [1, 2], "b": None, "c": False}) == ["--a", "1", "2", "--b", "null", "--c", "false"]


def test_a_run_is_told_by_what_it_has_of_its_own():
    trained = Run({"paradigm": "combined", "objectives": ["fusion", "text"], "seed": 1, "batch_size": 8})
    assert describe(trained) == "paradigm combined, objectives fusion text, seed 1"
    evaluated = Run({"num_beams": 5, "photo_share": 0.5}, trained)
    assert describe(evaluated) == f"{describe(trained)}, evaluated with photo_share 0.5"
    assert describe(Run({"num_beams": 5}, trained)) == f"{describe(trained)}, evaluated again"


def test_a_program_gets_where_what_it_needs_lies(place):
    assert arguments_of(HELD_OUT, place) == [
        *("--dataset", "corpus", "--model", str(place.folder(TRAINED[0])), "--output", str(place.folder(HELD_OUT))),
        *("--held_out", "2"),
    ]
    assert arguments_of(CLASSIFIED[0], place) == [
        *("--profiles", str(place.folder(HELD_OUT)), "--output", str(place.folder(CLASSIFIED[0]))),
        *("--classifier", "bert", "--seed", "0"),
    ]


@pytest.mark.parametrize("jobs", [1, 3])
def test_each_link_of_chains_is_done_once_and_behind_what_it_needs(place, monkeypatch, jobs):
    begun, ready = [], []

    @contextmanager
    def processes(jobs):
        def trainer(program, arguments, log):
            run = next(run for run in CHAINS if arguments_of(run, place) == arguments)
            ready.append(all((place.folder(one) / "all_results.json").is_file() for one in run.chain[:-1]))
            begun.append((run.digest, program))
            write_ratings(place.folder(run), 0.5)

        yield trainer

    monkeypatch.setattr(execution, "training_processes", processes)
    do_all(CHAINS, place, jobs, lambda line: None, 1)
    assert sorted(begun) == sorted((run.digest, run.program) for run in CHAINS)
    assert [is_done(place.results, run) for run in CHAINS] == [True] * 4
    shutil.rmtree(place.output)  # models are gone, results are kept
    (place.results / f"{CLASSIFIED[1].digest}.json").unlink()
    begun.clear()
    do_all(CHAINS, place, jobs, lambda line: None, 1)
    assert begun == [(run.digest, run.program) for run in CLASSIFIED[1].chain]
    assert ready == [True] * (4 + 3)


def test_a_run_that_fails_leaves_a_log_and_no_result(place):
    run = Run({"seed": 0, "num_epochs": 0})
    with training_processes(1) as trainer:
        with pytest.raises(RunFailed, match=r"num_epochs .* got 0; see .*\.log"):
            execution.do(run, place, trainer)
        again = trainer(TRAIN, ["--output_dir", "x"], place.log(TRAINED[1]))  # by the same process
    assert "num_epochs" in place.log(run).read_text()
    assert again and again in place.log(TRAINED[1]).read_text()
    assert not is_done(place.results, run)


def test_an_evaluation_whose_model_is_gone_trains_it_again_and_keeps_the_first_results(place):
    keep_run(place.results, place.output / "elsewhere", TRAINED[0], 0.2)
    before = read_kept(place.results, TRAINED[0]).told
    ran = []

    def trainer(program, arguments, log):
        run = EVALUATED[0] if "--model" in arguments else TRAINED[0]
        ran.append(run)
        keep_run(place.output / "other", place.folder(run), run, 0.9)

    execution.do(EVALUATED[0], place, trainer)
    assert ran == [TRAINED[0], EVALUATED[0]]
    assert read_kept(place.results, TRAINED[0]).told == before
    assert read_kept(place.results, EVALUATED[0]).truths == profiles(0)


def test_the_time_left_is_by_what_runs_of_the_system_took(place):
    assert seconds_left(RUNS, place.results, 2) == 3 * 120 + 2 * 30
    for run, seconds in ((TRAINED[0], 100.0), (EVALUATED[0], 10.0)):
        keep_run(place.results, place.folder(run), run, 0.2)
        path = place.results / f"{run.digest}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    other = Run({"system": "bart", "seed": 0})
    assert seconds_left([TRAINED[1], EVALUATED[1], other], place.results, 2) == 100 + 10 + 100
    assert time_left_told(3600 * 30 + 60 * 5) == "1 day, 6:05"


def test_times_of_programs_are_known_by_kind(place):
    keep_run(place.results, place.folder(TRAINED[0]), TRAINED[0], 0.2)
    keep_ratings(place.results, place.folder(CLASSIFIED[0]), CLASSIFIED[0], 0.5)
    assert known_seconds(place.results) == {"mmprofile": [2.0], "sentiment bert": [3.0]}
    assert seconds_left([CLASSIFIED[0], HELD_OUT, TRAINED[1]], place.results, 2) == 3 + 2 / 4 + 2


def test_a_corpus_made_by_other_flags_is_not_taken(tmp_path):
    scale = read_scale("smoke")
    (tmp_path / "made.json").write_text(json.dumps({"synthesize": {"users": 7}}))
    with pytest.raises(ValueError, match="is a corpus made by .*, not by"):
        make_corpus(scale, tmp_path)
    with pytest.raises(ValueError, match="scale paper has no corpus of its own: name one by --dataset"):
        make_corpus(read_scale("paper"), tmp_path)
