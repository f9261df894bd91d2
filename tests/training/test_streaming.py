"""A training split that is streamed: the users, views and weights of one that is read whole, in another order."""

import signal
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from huggingface_hub import HfApi
from torch.utils.data import BatchSampler

from corpora.shards import Shards
from mmprofile import ProfileSchema
from systems.presets import tiny_processor
from tests.corpora.test_shards import shards
from tests.tiny_corpus import png
from tests.tiny_shards import write_shards
from tests.training.test_train import run, same, train_only
from tests.training.test_train_processes import assert_same_run, launcher, train
from tests.training.test_train_resume import stopped_run
from training import data
from training.arguments import JointTrainingArguments
from training.data import corpus_texts, load_corpus, split_digest, training_loader
from training.guards import TrainingFailure
from training.photo_check import UnreadablePhoto
from training.streaming import StreamedUsers

USERS = 24
BOTH = {"streaming": True, "shuffle_buffer": 6}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming") / "corpus"
    write_shards(folder, USERS)
    return folder


def arguments(corpus, **flags):
    return JointTrainingArguments(dataset=str(corpus), output_dir="x", **flags)


def loader_of(corpus, **flags):
    """Of training, with its processor."""
    flags = arguments(corpus, **flags)
    split = load_corpus(flags)["train"]
    schema = ProfileSchema.from_features(split.features["profile"])
    return training_loader(split, tiny_processor(["user likes a place"], schema, 400, 8), flags)


def epoch_of(loader, epoch) -> dict:
    """User -> the example drawn and the batch made of it alone, in the epoch's order."""
    loader.dataset.set_epoch(epoch)
    examples = [loader.dataset[index] for index in loader.sampler]
    return {example.user_id: (vars(example), loader.collate_fn([example])) for example in examples}


def assert_equal(one, other):
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, np.random.Generator):
        assert one.bit_generator.state == other.bit_generator.state
    else:
        assert one == other


@pytest.mark.parametrize("limit", [None, 10])
def test_users_and_the_views_of_each_are_those_of_a_split_read_whole(corpus, limit):
    flags = {"num_reviews": 2, "forged_lines": 0.5, "max_train_users": limit, "seed": 3}
    whole, streamed = loader_of(corpus, **flags), loader_of(corpus, **flags, **BOTH)
    for epoch in (1, 2):
        expected, found = epoch_of(whole, epoch), epoch_of(streamed, epoch)
        assert len(found) == len(expected) == (limit or USERS)
        for user in expected:
            for ours, theirs in zip(found[user], expected[user], strict=True):
                assert_equal({name: ours[name] for name in ours}, theirs)


def test_the_order_is_of_seed_and_epoch_and_has_every_user_once(corpus):
    def order(epoch, seed=0):
        return StreamedUsers(shards(corpus), 6, 4, seed).order(epoch).tolist()

    orders = [order(1), order(2), order(1, seed=1)]
    assert order(1) == orders[0]
    assert all(sorted(rows) == list(range(USERS)) for rows in orders)
    assert len(set(map(tuple, orders))) == len(orders)


class Counted(Shards):
    """Shards of so many users each, without files; which were read how often."""

    def __init__(self, sizes):
        self.sizes, self.features, self.labels = np.array(sizes), None, [{"profile": None}] * sum(sizes)
        self.reads = Counter()

    def read(self, number):
        self.reads[number] += 1
        first = int(self.sizes[:number].sum())
        return pa.table({"user_id": range(first, first + int(self.sizes[number]))})


def read_by(make, processes, workers):
    """What each process and worker takes of an epoch's batches, and what it has read for it."""
    streamed = make()
    batches = BatchSampler(streamed.order(1).tolist(), streamed.batch_size, drop_last=False)
    for process in range(processes):
        own = list(BatchSamplerShard(batches, processes, process))
        for worker in range(workers):
            reader, rows = make(), [row for batch in own[worker::workers] for row in batch]
            found = [reader.row(row, 1)["user_id"] for row in rows]
            yield process, rows, found, reader.shards.reads


@pytest.mark.parametrize(("processes", "workers"), [(1, 1), (2, 1), (1, 4), (2, 2), (4, 2), (3, 1)])
def test_processes_and_workers_share_the_users_and_take_as_many_steps(processes, workers):
    def make():
        return StreamedUsers(Counted([10, 7, 10, 9] * 25), 330, 4, seed=0)

    parts = list(read_by(make, processes, workers))
    assert parts and all(rows == found for _, rows, found, _ in parts)
    rows = [Counter(row for of, rows, *_ in parts if of == process for row in rows) for process in range(processes)]
    assert len({part.total() for part in rows}) == 1
    taken = sum(rows, Counter())
    assert set(taken) == set(range(900)) and taken.total() - 900 < 4 * processes
    reads = sum((reads for *_, reads in parts), Counter()).total()
    again = 8 + 4 * (processes - 1)  # row groups in two lanes, and of users that fill up the last batches
    assert make().lanes == 8
    assert reads <= 100 + again if 8 % (processes * workers) == 0 else reads > 200


def test_the_buffer_bounds_what_is_held_and_mixes_as_much():
    sizes, spread = [*[10] * 100, 7], []  # of which a last batch is not full
    for buffer, lanes in ((10, 1), (60, 1), (100, 2), (500, 8)):
        streamed = StreamedUsers(Counted(sizes), buffer, 4, seed=0)
        order, most = streamed.order(1), 0
        for epoch in (1, 2):
            streamed.shards.reads.clear()
            for row in streamed.order(epoch):
                streamed.row(row, epoch)
                held = sum(len(table) for _, tables in streamed._held.values() for table in tables.values())
                most = max(most, held)
            assert streamed.lanes == lanes and buffer / 2 < most <= buffer
            assert streamed.shards.reads.total() <= 101 + lanes + 2
        spread.append(len(set(order[:40] // 10)))  # row groups of the first users
    assert spread[0] == 4 and spread == sorted(spread) and spread[-1] > 10
    with pytest.raises(ValueError, match="a row group of 10 users is larger than --shuffle_buffer 9"):
        StreamedUsers(Counted(sizes), 9, 4, seed=0)


def test_a_run_goes_on_where_it_stopped_and_reads_again_what_the_buffer_held():
    streamed = StreamedUsers(Counted([10] * 100), 100, 4, seed=0)
    for row in streamed.order(1)[700:]:
        streamed.row(row, 1)
    assert 30 <= streamed.shards.reads.total() <= 30 + 10


FLAGS = {"batch_size": 4, "num_epochs": 2, "save_steps": 1, "forged_lines": 0.5, **BOTH}


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    return train_only(corpus, tmp_path_factory.mktemp("alone") / "model", **FLAGS)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_streamed_run_that_is_killed_and_resumed_ends_as_the_run_left_alone(
    corpus, alone, tmp_path, num_workers, monkeypatch
):
    flags = FLAGS | {"num_workers": num_workers, "resume_from_checkpoint": "auto"}
    for at in (3, 4):  # of an epoch's 6 steps, at one of which it has begun anew
        stopped_run(corpus, tmp_path / "model", at, monkeypatch, signal.SIGTERM, **flags)
    assert (tmp_path / "model" / "checkpoint-5").is_dir()
    assert same(train_only(corpus, tmp_path / "model", **flags), alone)


@pytest.mark.slow
def test_a_corpus_on_the_hub_gives_the_weights_of_that_on_the_disk(corpus, alone, tmp_path, hub):
    api = HfApi(hub.endpoint, token=hub.token)
    api.create_repo("user/streamed", repo_type="dataset")
    api.upload_folder(repo_id="user/streamed", repo_type="dataset", folder_path=corpus)
    assert same(train_only("user/streamed", tmp_path / "model", **FLAGS | {"num_workers": 2}), alone)


@pytest.mark.slow
def test_two_processes_are_one_that_accumulates_as_many_batches(tmp_path):
    write_shards(tmp_path / "corpus", USERS + 1)  # the last batch is of one process alone
    flags = {"streaming": "true", "shuffle_buffer": 6, "batch_size": 5}
    one = [sys.executable, "train.py"]
    alone = train(
        tmp_path / "corpus", tmp_path / "one", one, gradient_accumulation_steps=2, **flags, max_train_users=20
    )
    two = launcher("recipes/accelerate_cpu.yaml", "train.py")
    assert_same_run(*train(tmp_path / "corpus", tmp_path / "two", two, **flags, max_train_users=20), *alone)
    uneven = launcher("recipes/accelerate_cpu.yaml", "train.py")
    history, _ = train(tmp_path / "corpus", tmp_path / "uneven", uneven, **flags)
    assert [record["step"] for record in history] == [3, 6]


def test_a_user_whose_row_cannot_be_read_ends_the_run_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "TOKENIZER_USERS", 3)
    wrong = [{"text": "good", "images": [png(1)], "captions": ["one", "two"]}]
    write_shards(tmp_path / "corpus", changed={10: {"reviews": wrong}})
    words = r"^'[^\n]*': user 'u10' has a review with another number[^\n]*; the last good checkpoint is [^\n]*$"
    with pytest.raises(TrainingFailure, match=words):
        run(tmp_path / "corpus", tmp_path / "model", num_workers=1, **BOTH)


def test_photos_of_a_streamed_split_are_checked_when_they_come(tmp_path):
    broken = [{"text": "good", "images": [{"bytes": b"none", "path": None}], "captions": ["one"]}]
    write_shards(tmp_path / "corpus", changed={10: {"reviews": broken}})
    with pytest.raises(TrainingFailure, match="user 'u10', photo 1 of review 1: .*the last good checkpoint"):
        run(tmp_path / "corpus", tmp_path / "model", **BOTH)
    loader = loader_of(tmp_path / "corpus", **BOTH)
    with pytest.raises(UnreadablePhoto, match="u10"):
        list(loader)


def test_the_tiny_preset_and_the_digest_are_of_a_streamed_split_too(corpus, tmp_path):
    whole, streamed = (load_corpus(arguments(corpus, streaming=flag))["train"] for flag in (False, True))
    texts = list(corpus_texts(streamed))
    assert texts == list(corpus_texts(whole)) and len(texts) == USERS * 12
    assert [len(reviews) for reviews in streamed.first_reviews(4)] == [4] * 4  # of a row group and a part of one
    write_shards(tmp_path / "corpus", USERS + 1)
    assert split_digest(streamed) != split_digest(load_corpus(arguments(tmp_path / "corpus", streaming=True))["train"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"photo_cache": "photos"}, "--photo_cache photos reads the photos of all users before the first step"),
        ({"group_by_length": True}, "--group_by_length true reads the reviews of all users"),
        ({"auto_batch_size": True}, "--auto_batch_size true reads the reviews of all users"),
        ({"shuffle_buffer": 2}, "a row group of 3 users is larger than --shuffle_buffer 2"),
        ({"shuffle_buffer": 0}, "shuffle_buffer is at least 1, got 0"),
    ],
)
def test_what_needs_the_whole_split_is_refused_with_streaming(corpus, flags, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(arguments(corpus, **({"streaming": True} | flags)))


def test_a_frozen_vision_tower_stays_as_it_is_while_users_are_streamed(corpus, tmp_path):
    flags = {"freeze_vision": True, "max_train_users": 4, **BOTH}
    frozen = train_only(corpus, tmp_path / "a", **flags)
    longer = train_only(corpus, tmp_path / "b", num_epochs=2, **flags)
    changed = {name.split(".")[0] for name in frozen if not torch.equal(frozen[name], longer[name])}
    assert "vision_model" not in changed and "text_model" in changed
