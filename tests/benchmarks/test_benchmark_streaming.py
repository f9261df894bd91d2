"""`benchmarks/streaming.py` at a small size: every figure that it promises, each style over the same users."""

import json

import pytest

from benchmarks import streaming


@pytest.mark.slow
def test_the_benchmark_writes_paces_and_memory_of_both_styles(tmp_path):
    words = ["--users", "400", "--buffer", "100", "--batch_size", "4", "--turn", "5", "--turns", "2"]
    results = streaming.main(["--output", str(tmp_path / "cpu.json"), *words])
    assert json.loads((tmp_path / "cpu.json").read_text()) == json.loads(json.dumps(results))
    whole, streamed = results["whole"], results["streamed"]
    assert (whole["users"], streamed["users"]) == (40, 400)
    for of in ("wall", "cpu"):
        pace = f"users_per_{of}_second"
        assert results[f"streamed_over_whole_{of}"] == streamed[pace] / whole[pace] > 0
    assert streamed["memory_most_after_a_tenth"] >= streamed["memory_at_the_end"] > 0
    assert results["machine"]["cpu"] and results["corpus"]["megabytes"] > 0
