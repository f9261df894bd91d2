"""The command that compares all systems."""

import json

import pytest
import torch
from safetensors.torch import save_file

from baselines.table import SYSTEMS
from benchmarks import systems
from mmprofile import ProfileSchema

KEYS = (*ProfileSchema().keys, "average")


@pytest.fixture
def trained(monkeypatch):
    """Names of what was trained; each folder has figures of its own."""
    names = []

    def train(name, folder, dataset, flags):
        names.append(name)
        folder.mkdir(parents=True)
        save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, folder / "model.safetensors")
        score = 50.0 + len(names)
        results = {
            "test_f1": {name: dict.fromkeys(KEYS, score)},
            "test_intervals": {name: {"average": [score - 2, score + 2]}},
            "test_differences": {"reviews alone": {"average": [1.0, 3.0]}},
            "test_text_only_average_f1": 40.0,
            "test_majority_average_f1": 24.6,
            "train_seconds": 1e9,
            "train_corpus": {"train": 1500},
            "best_epoch": 6,
            "test_corpus": {"users": 250},
        }
        (folder / "all_results.json").write_text(json.dumps(results))
        (folder / "recipe.yaml").write_text("num_epochs: 6\n")
        (folder / "metrics.jsonl").write_text(json.dumps({"users_per_second": 100.0}) + "\n")

    monkeypatch.setattr(systems, "train", train)
    return names


def test_each_system_is_trained_once_and_has_a_line(trained, tmp_path):
    readme, output = tmp_path / "README.md", tmp_path / "systems.json"
    readme.write_text(f"before\n\n{systems.BEGIN}\nold\n{systems.END}\n\nafter\n")
    argv = ["--output", str(output), "--folder", str(tmp_path / "runs"), "--readme", str(readme)]
    systems.main([*argv, "--systems", "bart", "llama"])
    assert trained == ["bart", "llama"] * 2  # the second time for the seconds
    trained.clear()
    systems.main([*argv, "--timed_steps", "0"])
    assert set(trained) == set(SYSTEMS) - {"bart", "llama"} and len(trained) == len(SYSTEMS) - 2
    trained.clear()
    found = systems.main(argv)
    assert set(trained) == set(SYSTEMS) - {"bart", "llama"} and list(found) == list(SYSTEMS)
    trained.clear()
    assert found["bart"]["f1"]["average"] == 51.0 and found["bart"]["parameters"] == 17
    assert json.loads(output.read_text())["systems"] == found
    lines = [line for line in readme.read_text().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(SYSTEMS) + 1 and "old" not in readme.read_text()
    (bart,) = (line for line in lines if "`bart`" in line)
    assert [cell.strip() for cell in bart.split("|")][-6:-1] == ["51.0", "49.0–53.0", "40.0", "0.00 M", "1.5"]
    assert readme.read_text().startswith("before") and readme.read_text().endswith("after\n")
    assert systems.main(argv) == found and trained == []


def test_a_file_without_a_place_for_the_table_is_left_as_it_is(trained, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("no place")
    argv = ["--output", str(tmp_path / "f.json"), "--folder", str(tmp_path), "--systems", "bart"]
    with pytest.raises(ValueError, match="must have one"):
        systems.main([*argv, "--readme", str(readme)])
    assert readme.read_text() == "no place"
