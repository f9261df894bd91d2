"""The demo over seeds, without a training."""

import json

import pytest

from benchmarks import demo_seeds


def test_seeds_that_are_there_are_not_trained_again_and_the_mean_has_its_standard_error(tmp_path, monkeypatch, capsys):
    seeds = []

    def trained(argv):
        seeds.append(int(argv[argv.index("--seed") + 1]))
        assert argv[-2:] == ["--forged_lines", "0"]
        agreed = {"stars": {"without": 20.0, "with": 20.0 + seeds[-1], "with_five": 22.0 + seeds[-1]}}
        return {"test_average_f1": 70.0 + seeds[-1], "test_f1": {}, "test_forged_agreement": agreed, "best_epoch": 6}

    monkeypatch.setattr(demo_seeds.train, "main", trained)
    argv = ["--output", str(tmp_path / "seeds.json"), "--name", "plain", "--seeds"]
    demo_seeds.main([*argv, "1", "--flags", "--forged_lines", "0"])
    found = demo_seeds.main([*argv, "3", "--flags", "--forged_lines", "0"])
    assert seeds == [0, 1, 2]
    assert found == json.loads((tmp_path / "seeds.json").read_text())
    assert found["plain"]["2"]["test_average_f1"] == pytest.approx(72)
    shown = capsys.readouterr().out
    assert "plain: 3 seeds, average Macro-F1 71.00 ± 0.58" in shown  # a standard deviation of 1 over the root of 3
    assert "stars: a forged value is believed by 1.00 ± 0.58 points more than by chance, of five lines 3.00" in shown
