"""The page that is made of what is kept."""

import pytest

from experiments import render as page
from experiments.plan import chosen_tables, read_scale, runs_of
from experiments.results import is_done
from tests.experiments.kept_runs import keep_run

SCALE = read_scale("smoke")
ROWS = {"table_3": ("Ours", "-Uni", "-Multi -Uni"), "figure_6": ("Multi Paired", "Multi Unpaired", "Uni Paired")}


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
    assert sorted(path.name for path in (tmp_path / "once").iterdir()) == ["RESULTS.md", "figure_6.png"]


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
