"""The demo over seeds, without a training."""

import json
from pathlib import Path

import pytest

from benchmarks import demo_seeds


def test_the_seeds_that_were_trained_are_kept_beside_others_and_the_mean_has_its_standard_error(
    tmp_path, monkeypatch, capsys
):
    def trained(argv):
        folder, seeds = (argv[argv.index(f"--{name}") + 1] for name in ("output_dir", "seeds"))
        assert folder == str(tmp_path / "runs" / "plain") and argv[-2:] == ["--forged_lines", "0"]
        for seed in range(int(seeds)):
            agreed = {"stars": {"without": 20.0, "with": 20.0 + seed, "with_five": 22.0 + seed}}
            results = {"test_average_f1": 70.0 + seed, "test_f1": {}, "test_forged_agreement": agreed, "best_epoch": 6}
            (Path(folder) / f"seed-{seed}").mkdir(parents=True)
            (Path(folder) / f"seed-{seed}" / "all_results.json").write_text(json.dumps(results))
        return {"seeds": list(range(int(seeds)))}

    monkeypatch.setattr(demo_seeds.train, "main", trained)
    kept = {"other": {"0": {"test_average_f1": 60.0}}}
    (tmp_path / "seeds.json").write_text(json.dumps(kept))
    argv = ["--output", str(tmp_path / "seeds.json"), "--folder", str(tmp_path / "runs"), "--name", "plain"]
    found = demo_seeds.main([*argv, "--seeds", "3", "--flags", "--forged_lines", "0"])
    assert found == json.loads((tmp_path / "seeds.json").read_text())
    assert found["other"] == kept["other"] and "best_epoch" not in found["plain"]["2"]
    assert found["plain"]["2"]["test_average_f1"] == pytest.approx(72)
    shown = capsys.readouterr().out
    assert "plain: 3 seeds, average Macro-F1 71.00 ± 0.58" in shown  # a standard deviation of 1 over the root of 3
    assert "stars: a forged value is believed by 1.00 ± 0.58 points more than by chance, of five lines 3.00" in shown
