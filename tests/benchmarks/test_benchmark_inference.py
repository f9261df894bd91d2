"""`benchmarks/inference.py` at tiny size: what it measures, and that it compares like with like."""

import importlib.util
import json

import pytest
import torch

from mmprofile.configuration_mmprofile import ProfileSchema
from mmprofile.profile_trie_mmprofile import profile_trie
from tests import ROOT
from tests.toy_schemas import SCHEMAS, all_profiles, unigram_tokenizer

SPEC = importlib.util.spec_from_file_location("benchmark_inference", ROOT / "benchmarks" / "inference.py")
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)

TINY = ["--size", "tiny", "--text_tokens", "40", "--photos", "1", "--batch_sizes", "1", "2", "--repeats", "2"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    output = tmp_path_factory.mktemp("benchmark") / "inference.json"
    returned = benchmark.main(
        [*TINY, "--users", "3", "--clients", "1", "4", "--requests", "2", "--output", str(output)]
    )
    assert json.loads(output.read_text()) == returned
    return returned


def test_the_file_has_every_figure(results):
    for name in ("constrained_beam_over_generate_profiles", "plain_beam_over_generate_profiles"):
        assert set(results[name]) == {"encoding_included", "encoding_excluded"}
        assert all(ratio > 0 for ratio in results[name].values())
    assert results["decoder_calls_per_user"] >= 1 and 0 <= results["exact_share"] <= 1
    assert results["users_per_second"] > 0 and 0 <= results["input_wait_share"] <= 1
    assert results["device"] in ("cpu", torch.cuda.is_available() and torch.cuda.get_device_name())
    assert results["machine"]["cores"] >= 1 and set(results["versions"]) == {"python", "torch", "transformers"}
    assert results["predict"]["users"] == 3


def test_a_ratio_is_of_medians_and_a_whole_call_has_the_encoding(results):
    assert [batch["batch_size"] for batch in results["batches"]] == [1, 2] and results["batch_size"] == 2
    for batch in results["batches"]:
        seconds, ratios = batch["median_seconds"], batch["constrained_beam_over_generate_profiles"]
        assert batch["text_tokens"] == 40 and all(len(times) == 2 for times in batch["seconds"].values())
        ours, beam = seconds["generate_profiles"], seconds["constrained_beam"]
        encoding, own = seconds["encoding"], seconds["encoding_of_generate_profiles"]
        assert ratios["encoding_excluded"] == pytest.approx(beam / ours)
        assert ratios["encoding_included"] == pytest.approx((encoding + beam) / (own + ours))


def test_the_head_writes_profiles_and_is_not_sure_of_their_values(results):
    assert len(results["batches"]) == 2
    for batch in results["batches"]:
        assert batch["certainty"]["forced_token_probability"] > 0.5
        assert batch["certainty"]["entropy_per_choice"] > 0.1


def test_every_client_of_the_handler_is_answered(results):
    assert [(served["clients"], served["requests"]) for served in results["handler"]] == [(1, 2), (4, 8)]
    assert all(served["requests_per_second"] > 0 for served in results["handler"])


def test_the_tokens_allowed_are_those_of_the_schemas_profiles():
    tokenizer, schema = unigram_tokenizer(), SCHEMAS["alike"]
    allowed = benchmark.AllowedTokens(profile_trie(schema, tokenizer), tokenizer.pad_token_id)
    following = {}
    for profile in all_profiles(schema):
        ids = tokenizer(schema.render(profile)).input_ids
        for place, token in enumerate(ids):
            following.setdefault(tuple(ids[:place]), set()).add(token)
        following[tuple(ids)] = {tokenizer.pad_token_id}
    assert {prefix: set(allowed(0, torch.tensor([0, *prefix]))) for prefix in following} == following


def test_random_profiles_are_valid_and_some_values_more_frequent():
    rng, schema = benchmark.random.Random(1), ProfileSchema()
    profiles = [benchmark.random_profile(schema, rng) for _ in range(200)]
    assert all(schema.validate(profile) == profile for profile in profiles)
    stars = [profile["stars"] for profile in profiles]
    assert stars.count("1") > stars.count("2") > stars.count("5")


@pytest.mark.parametrize(
    "words", [["--repeats", "0"], ["--photos", "-1"], ["--batch_sizes", "1", "0"], ["--size", "x"]]
)
def test_numbers_that_do_not_fit_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--output", "unused.json", *words])
    assert words[0] in capsys.readouterr().err


def test_peers_that_are_not_installed_are_named(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "peers_are_there", lambda: False)
    with pytest.raises(SystemExit):
        benchmark.main(["--output", "unused.json", "--only_peers"])
    assert "requirements-benchmarks.txt" in capsys.readouterr().err
