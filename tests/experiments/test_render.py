"""The page that is made of what is kept."""

import shutil

import pytest

from experiments import render as page
from experiments.corpus_tables import keep_corpus_tables
from experiments.figures import curve_of
from experiments.plan import chosen_tables, read_scale, runs_of
from experiments.results import is_done
from tests.experiments.kept_runs import keep_run

SCALE = read_scale("smoke")
ROWS = {"table_3": ("Ours", "-Uni", "-Multi -Uni"), "figure_6": ("Multi Paired", "Multi Unpaired", "Uni Paired")}
ROWS["equal_time"] = ("Fusion alone", "Joint, sampled")
CARD = """# A corpus

| Attribute | Type |
| --- | --- |
| Mood | text |

| Statistics of the rows | Paper, Table 1 | This corpus |
| --- | --- | --- |
| Users | 14,821 | 100 |

| Attribute | Value | Paper, Table 6 | This corpus |
| --- | --- | --- | --- |
| stars | 1 | 1 (0.0%) | 5 (5.0%) |
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for table in chosen_tables(list(ROWS)):
        for number, row in enumerate(row for row in table.rows if row.name in ROWS[table.name]):
            for run in runs_of(row, SCALE, 2):
                keep_run(folder / "smoke", folder / run.digest, run, 0.1 + 0.3 * number)
    return folder


def test_rendered_again_the_page_is_the_same_to_the_letter_and_figures_are_drawn(results, tmp_path):
    arguments = ["--scale", "smoke", "--results", str(results), "--output"]
    page.main([*arguments, str(tmp_path / "once")])
    page.main([*arguments, str(tmp_path / "twice")])
    once, twice = ((tmp_path / name / "RESULTS.md").read_text() for name in ("once", "twice"))
    assert once == twice
    assert (tmp_path / "once" / "figure_6.png").read_bytes()[1:4] == b"PNG"
    assert sorted(path.name for path in (tmp_path / "once").iterdir()) == [
        *("RESULTS.md", "equal_time.png", "figure_6.png")
    ]


def test_a_table_has_the_papers_number_the_majority_class_and_what_is_not_resolved(results):
    text = page.render(SCALE, results / "smoke")
    assert "on 40 test users" in text
    table = text.split("## Table 3")[1].split("##")[0]
    lines = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    rows = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}
    assert list(rows)[2:] == ["Ours", "-Uni", "-Multi -Uni", "Majority class"]
    assert (rows["Ours"][0], rows["Ours"][-3:]) == ("2", ["53.91", "", ""])
    assert rows["-Multi -Uni"][-1] == "< 0.0001" and rows["-Multi -Uni"][-2].startswith("-")
    assert "±" in rows["-Uni"][1] and rows["Majority class"][1].replace(".", "").isdigit()
    assert "Not run yet: -Multi." in table
    assert "## Table 2" in text  # of which "Ours" is the same run
    assert "| Multi | Unpaired |" in " ".join(text.split("## Figure 6")[1].split())


def test_without_results_there_is_no_page(tmp_path):
    with pytest.raises(ValueError, match="nothing is run at scale smoke"):
        page.render(SCALE, tmp_path)


def test_seeds_count_as_far_as_they_are_done_without_a_gap(results, tmp_path):
    row = next(row for row in chosen_tables(["table_3"])[0].rows if row.name == "Ours")
    runs = runs_of(row, SCALE, 3)
    assert [is_done(results / "smoke", run) for run in runs] == [True, True, False]
    assert [one.told["flags"]["seed"] for one in page.kept_runs(row, SCALE, results / "smoke")] == [0, 1]


def test_development_scores_stand_against_the_processor_time_of_the_median_epoch(results):
    (table,) = chosen_tables(["equal_time"])
    curve = curve_of(page.kept_runs(table.rows[0], SCALE, results / "smoke"))
    assert (curve.pace, curve.seconds, curve.scores) == (3.0, [3.0, 6.0, 9.0], [20.0, 40.0, 60.0])
    assert curve.deviations == [0.0, 0.0, 0.0]
    text = page.render(SCALE, results / "smoke")
    assert "| Fusion alone | 3 | 3 | 9 | 60.0 |" in " ".join(text.split())
    assert "figure_6_trained.png" not in text  # it shares runs, and has none of its own


def test_tables_1_and_6_are_those_of_the_corpus_card(results, tmp_path):
    (tmp_path / "corpus").mkdir()
    keep_corpus_tables(str(tmp_path / "corpus"), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    (tmp_path / "corpus" / "README.md").write_text(CARD)
    keep_corpus_tables(str(tmp_path / "corpus"), tmp_path / "kept")
    shutil.copytree(results / "smoke", tmp_path / "kept", dirs_exist_ok=True)
    text = page.render(SCALE, tmp_path / "kept")
    assert "## Table 1: Statistics of the corpus\n\n| Statistics of the rows |" in text
    assert text.split("## Table 6")[1].splitlines()[4] == "| stars | 1 | 1 (0.0%) | 5 (5.0%) |"
    assert "Mood" not in text and "reviews a user 34.3" in text


@pytest.mark.parametrize("dataset", ["org/no-card", "s3://bucket/corpus"])
def test_a_corpus_whose_card_is_not_to_be_had_has_no_tables_and_ends_no_runs(dataset, tmp_path):
    keep_corpus_tables(dataset, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
