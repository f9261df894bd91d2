"""The benchmark of a training step runs, and leaves what it promises."""

import json

import pytest
import torch

from benchmarks import train_step


@pytest.fixture(autouse=True)
def precision_as_before():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.slow
def test_the_benchmark_writes_its_ratios(tmp_path):
    words = ["--layers", "1", "--batch_size", "1", "--rounds", "1", "--tokens", "64", "--photos", "1"]
    words += ["--flags", "bf16", "sdpa", "fused_adamw", "freeze_vision", "gradient_checkpointing", "group_by_length"]
    words += ["matmul_precision"]
    results = train_step.main(["--output", str(tmp_path / "results" / "cpu.json"), *words])
    assert json.loads((tmp_path / "results" / "cpu.json").read_text()) == json.loads(json.dumps(results))
    seconds = results["seconds"]
    for ratio in ("shared_over_one_by_one", "shared_over_summed", "sampled_over_fusion"):
        above, below = ratio.split("_over_")
        assert results[ratio] == pytest.approx(seconds[above] / seconds[below]) and seconds[below] > 0
    assert 0 < results["data_wait_share"] < 1
    assert results["device"] and results["layers"] == "1 of base size's 12, of its width"
    assert results["flags"].keys() == set(words[words.index("--flags") + 1 :])
    for found in results["flags"].values():
        assert found["on_over_off"] == found["on"] / found["off"] > 0
    assert results["flags"]["group_by_length"]["padding"] == {"on": 0.0, "off": 0.0}  # of one user a batch
    assert results["photos_per_second_of_the_pipeline_without_photo_cache"] > 0
    flops = results["gigaflops_a_user"]
    alone = sum(flops[name] for name in ("fusion", "text", "mask_image", "mask_profile"))
    assert flops["shared"] < flops["one_by_one"] == flops["summed"] == pytest.approx(alone)
