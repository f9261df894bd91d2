"""The build: Parquet and card that load as any dataset does, nothing half done, and the program's flags."""

import ast
import subprocess
import sys

import datasets
import pytest

from dataset_script import mmprofile_yelp
from dataset_script.mmprofile_yelp import build, main
from tests import ROOT
from tests.raw_corpus import PROFILES, RULES, hand_written, jpeg

FAVORITE = "favorite_category"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return hand_written().write(tmp_path_factory.mktemp("hand") / "raw")


@pytest.fixture(scope="module")
def built(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "corpus"
    build(raw, output, config=["default", "full"], captions="photo_captions")
    return output


@pytest.fixture
def load(tmp_path):
    return lambda *names, **options: datasets.load_dataset(*map(str, names), cache_dir=str(tmp_path / "hf"), **options)


def reviews_of(split):
    """The reviews of a split, photos as stored: {"bytes", "path"}."""
    return [review for row in split.with_format("arrow")[:]["reviews"].to_pylist() for review in row]


def test_a_built_folder_loads_with_the_profiles_worked_out_by_hand(built, load):
    corpus = load(built)
    assert {name: len(split) for name, split in corpus.items()} == {"train": 6, "validation": 1, "test": 1}
    features = corpus["train"].features["profile"]
    assert list(features) == [rule.key for rule in RULES]
    assert features[FAVORITE].length == 2
    found = {}
    for row in (row for split in corpus.values() for row in split.remove_columns("reviews")):
        favorites = [features[FAVORITE].feature.int2str(value) for value in row["profile"].pop(FAVORITE)]
        labels = {key: features[key].int2str(value) for key, value in row["profile"].items()}
        found[row["user_id"]] = labels | {FAVORITE: favorites}
    assert found == PROFILES


@pytest.mark.parametrize("streaming", [False, True])
def test_a_row_has_its_photos_loaded_and_streamed(built, load, streaming):
    row = next(iter(load(built, split="test", streaming=streaming)))
    assert row["reviews"]
    for review in row["reviews"]:
        assert len(review["images"]) == len(review["photo_ids"]) == len(review["photo_captions"]) > 0
        assert all(image.size == (8, 6) for image in review["images"])


def test_the_photos_are_the_original_files_bytes(built, load):
    files = hand_written().files
    assert (reviews := reviews_of(load(built, split="train")))
    for review in reviews:
        assert [image["bytes"] for image in review["images"]] == [files[photo] for photo in review["photo_ids"]]


def test_captions_are_peoples_own_where_asked_for_and_null_otherwise(raw, built, load, tmp_path):
    written = {caption for review in reviews_of(load(built, split="train")) for caption in review["captions"]}
    assert {None, "the pizzeria"} <= written
    build(raw, tmp_path / "plain")
    reviews = reviews_of(load(tmp_path / "plain", split="train"))
    assert all(review["captions"] == [None] * len(review["images"]) for review in reviews)
    assert {"", "the pizzeria"} <= {caption for review in reviews for caption in review["photo_captions"]}


def test_both_configurations_agree_on_a_user(built, load):
    default, full = load(built), load(built, "full")
    assert [len(split) for split in full.values()] == [6, 1, 1]
    labels = [
        {row["user_id"]: row["profile"] for split in corpus.values() for row in split.remove_columns("reviews")}
        for corpus in (default, full)
    ]
    assert labels[0] == labels[1]


def test_a_folder_of_one_configuration_needs_no_name(raw, load, tmp_path):
    build(raw, tmp_path / "corpus", config="full")
    assert sum(map(len, load(tmp_path / "corpus").values())) == 8


def test_an_output_that_is_there_is_refused_unless_overwritten(raw, tmp_path, load):
    output = tmp_path / "corpus"
    build(raw, output)
    with pytest.raises(ValueError, match="output must not exist"):
        build(raw, output)
    build(raw, output, overwrite=True, max_reviews=4)
    assert max(len(row["reviews"]) for row in load(output, split="train")) == 4
    assert [path.name for path in tmp_path.iterdir() if path.name != "hf"] == ["corpus"]


def test_overwrite_replaces_nothing_but_an_earlier_build_whatever_was_built_before(raw, built, tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(ValueError, match="overwrite replaces an earlier build"):
        build(raw, tmp_path / "thesis", overwrite=True)
    for inside in (raw / "corpus", raw.parent):
        with pytest.raises(ValueError, match="apart from the raw data"):
            build(raw, inside, overwrite=True)


def test_a_failed_build_leaves_nothing(tmp_path, monkeypatch):
    raw = hand_written().write(tmp_path / "raw")

    def meanwhile(name, corpus):
        (raw / "photos" / "pizzeria-0.jpg").write_bytes(jpeg((1, 2, 3)))
        return "report"

    monkeypatch.setattr(mmprofile_yelp, "render_report", meanwhile)
    with pytest.raises(ValueError, match="photo pizzeria-0 changed since the build began"):
        build(raw, tmp_path / "corpus")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_killed_build_leaves_no_output(raw, tmp_path, load):
    program = f"""
import os, signal
from dataset_script import mmprofile_yelp
mmprofile_yelp.write_card = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
mmprofile_yelp.build({str(raw)!r}, {str(tmp_path / "corpus")!r})
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True).returncode == -9
    assert not (tmp_path / "corpus").exists()
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "corpus")
    build(raw, tmp_path / "corpus")


def test_the_program_builds_and_prints_the_report(raw, tmp_path, capsys, load):
    flags = ["--config", "full", "--captions", "photo_captions", "--max_reviews", "5", "--no-all_users"]
    assert main(["--data_dir", str(raw), "--output", str(tmp_path / "corpus"), *flags]) == 0
    assert "| Attribute | Value | Paper, Table 6 | This corpus |" in capsys.readouterr().out
    assert max(len(row["reviews"]) for row in load(tmp_path / "corpus", split="train")) == 5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data_dir", "nowhere"], "data_dir must be a folder with the raw files, got 'nowhere'"),
        (["--config", "tiny"], "config must be one or more of default, full"),
        (["--min_words", "0"], "min_words must be at least 1, got 0"),
        (["--output", "/dev/null/corpus"], "output must be a folder that can be written"),
    ],
)
def test_the_program_names_what_is_wrong(raw, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        main(["--data_dir", str(raw), "--output", str(tmp_path / "corpus"), *flags])
    assert message in capsys.readouterr().err


def test_an_unknown_threshold_is_refused(raw, tmp_path):
    with pytest.raises(ValueError, match="unknown thresholds min_stars; there are min_words"):
        build(raw, tmp_path / "corpus", min_stars=1)


def test_the_script_imports_neither_torch_nor_matplotlib():
    program = "import sys, dataset_script.mmprofile_yelp; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_the_script_names_every_module_it_needs():
    """`datasets` before 4 copies, beside a script, the modules that its lines import relatively, and no others."""

    def siblings(name):
        tree = ast.parse((ROOT / "dataset_script" / f"{name}.py").read_text())
        nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level]
        return {name for node in nodes for name in ([node.module] if node.module else [a.name for a in node.names])}

    named = siblings("mmprofile_yelp")
    assert {needed for name in named for needed in siblings(name)} <= named
