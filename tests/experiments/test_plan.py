"""What is run for which table."""

import pytest
import yaml

from baselines.table import SYSTEMS
from experiments import plan
from experiments.arguments import CLASSIFIERS, SHOWN, HeldOutArguments, SentimentArguments
from experiments.plan import (
    HERE,
    PROFILES,
    SENTIMENT,
    TRAIN,
    Run,
    all_runs,
    chosen_tables,
    read_scale,
    read_table,
    runs_of,
    table_names,
)
from training.arguments import JointTrainingArguments

SCALES = sorted(path.stem for path in (HERE / "scales").glob("*.yaml"))
PINNED = ("fd8659609bb28bbe", "516aefb2ca985133")


def test_tables_stand_before_figures_and_a_name_that_is_none_is_refused():
    names = table_names()
    assert names[:5] == ["table_2", "table_3", "table_4", "table_5", "table_7"]
    optional = ["figure_5_trained", "figure_6_trained"]
    assert names[-4:] == ["figure_5", "figure_5_trained", "figure_6", "figure_6_trained"]
    assert [table.name for table in chosen_tables(["all"])] == [name for name in names if name not in optional]
    assert [table.name for table in chosen_tables(["figure_6_trained"])] == ["figure_6_trained"]
    assert [table.name for table in chosen_tables(["figure_6", "table_3"])] == ["table_3", "figure_6"]
    with pytest.raises(ValueError, match=r"tables are of \['table_2', .*'all'\], got \['table_9'\]"):
        chosen_tables(["table_3", "table_9"])


@pytest.mark.parametrize("scale", SCALES)
def test_every_rows_flags_are_those_of_its_runs_programs(scale):
    of = read_scale(scale)
    assert len(SCALES) == 3
    runs = all_runs(chosen_tables(["all"]), of, 1)
    assert len(runs) > 50
    of_train = [run for run in runs if run.program == TRAIN]
    assert len(of_train) > 50
    for run in of_train:
        assert JointTrainingArguments(**{"dataset": "corpus", "output_dir": "out"} | run.flags).seed == 0
    (profiles,) = [run for run in runs if run.program == PROFILES]
    assert HeldOutArguments(model="model", dataset="corpus", output="out", **profiles.flags).held_out >= 2
    classified = [run for run in runs if run.program == SENTIMENT]
    flags = [SentimentArguments(profiles="profiles", output="out", **run.flags) for run in classified]
    assert {(one.classifier, one.profile, one.seed) for one in flags} == {
        (classifier, profile, 0) for classifier in CLASSIFIERS for profile in SHOWN
    }


def test_what_two_tables_share_runs_once_and_a_training_before_what_is_evaluated_of_it():
    scale, tables = read_scale("tiny"), chosen_tables(["all"])
    runs = all_runs(tables, scale, 2)
    digests = [run.digest for run in runs]
    assert len(set(digests)) == len(digests)
    rows = [next(row for row in read_table(name).rows if row.name == "Ours") for name in ("table_2", "table_3")]
    assert runs_of(rows[0], scale, 1) == runs_of(rows[1], scale, 1)
    places = {digest: place for place, digest in enumerate(digests)}
    evaluated = [run for run in runs if run.trained]
    assert evaluated
    assert all(places[run.trained.digest] < places[run.digest] for run in evaluated if run.trained)
    first = [run.flags["seed"] for run in runs if not run.trained]
    assert first == sorted(first) and set(first) == {0, 1}


def test_a_classification_needs_profiles_and_these_the_model_of_table_3_and_each_link_is_one_run():
    scale = read_scale("tiny")
    ours = runs_of(read_table("table_3").rows[0], scale, 2)
    rows = read_table("table_5").rows
    runs = all_runs([read_table("table_5")], scale, 2)
    assert len(rows) == 20 and len(runs) == 2 * (1 + 1 + 20)
    chains = [run.chain for row in rows for run in runs_of(row, scale, 2)]
    assert len(chains) == 40
    assert {tuple(run.program for run in chain) for chain in chains} == {(TRAIN, PROFILES, SENTIMENT)}
    assert {chain[0].digest for chain in chains} == {run.digest for run in ours}
    assert len({chain[1].digest for chain in chains}) == 2
    places = {run.digest: place for place, run in enumerate(runs)}
    assert len(places) == len(runs)
    assert all(places[chain[0].digest] < places[chain[1].digest] < places[chain[2].digest] for chain in chains)
    assert {run.kind for run in runs} == {"mmprofile", PROFILES, *(f"{SENTIMENT} {name}" for name in CLASSIFIERS)}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"program": "profiles"}, "got profiles and None"),
        ({"program": "sentiment"}, "got sentiment and None"),
        ({"program": "sentiment", "evaluated": {"profile": "none"}}, "got sentiment and {'profile': 'none'}"),
        ({"program": "sentiment", "evaluated": {"classifier": "bert"}}, "got sentiment and {'classifier': 'bert'}"),
    ],
)
def test_rows_of_one_program_make_a_table_and_a_classification_names_its_classifier(row, told, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "HERE", tmp_path)
    (tmp_path / "tables").mkdir()
    rows = [{"name": "a", "flags": {}}, {"name": "b", "flags": {}} | row]
    (tmp_path / "tables" / "table_9.yaml").write_text(yaml.safe_dump({"title": "t", "of": "o", "rows": rows}))
    with pytest.raises(ValueError, match=f"all rows are of train, or of sentiment .*, {told}"):
        read_table("table_9")


def test_digests_of_trainings_and_evaluations_stay_what_they_were():
    """Results that are kept are found by them."""
    run = Run({"seed": 0, "num_epochs": 1})
    assert (run.digest, Run({"num_reviews": 1}, run).digest) == PINNED
    assert Run({}, run, PROFILES).digest != Run({}, run).digest != Run({}, run, SENTIMENT).digest


def test_a_digest_tells_apart_what_is_computed():
    run = Run({"seed": 0, "num_epochs": 1})
    assert run.digest == Run({"num_epochs": 1, "seed": 0}).digest
    others = [Run({"seed": 1, "num_epochs": 1}), Run(run.flags, run), Run({}, run)]
    assert len({run.digest, *(other.digest for other in others)}) == 4


def test_the_papers_numbers_are_of_rows_that_there_are():
    paper = yaml.safe_load((HERE / "paper.yaml").read_text())
    published = paper.pop("published")
    assert set(published) - {"table_1"} <= set(paper) == {"table_2", "table_3", "table_4", "table_5", "table_7"}
    for name, rows in paper.items():
        assert set(published.get(name, {})) <= set(rows) <= {row.name for row in read_table(name).rows}
    averages = [row["average"] for row in paper["table_2"].values()]
    assert len(averages) == len(SYSTEMS) and max(averages) == paper["table_2"]["Ours"]["average"] == 53.91
    means = [sum(value for key, value in row.items() if key != "average") / 6 for row in paper["table_2"].values()]
    assert means == pytest.approx(averages, abs=0.011)
