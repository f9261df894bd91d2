"""T5's inside, as the tree decoder calls it."""

import pytest

from mmprofile.tree_decoder_mmprofile import BIAS_ARGUMENTS, BLOCK_ARGUMENTS, cache_argument

NEW = ", ".join(["self", "hidden_states", *sorted(BLOCK_ARGUMENTS | BIAS_ARGUMENTS), "cache=None", "**kwargs"])
BIAS = "self, query_length, key_length, device=None"


def class_with(name: str, arguments: str) -> type:
    names = {}
    exec(f"def {name}({arguments}): ...", names)
    return type("Inside", (), {name: names[name]})


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_has_the_name_that_the_installed_version_gives_it(name):
    block = class_with("forward", NEW.replace("cache", name))
    assert cache_argument(block, class_with("compute_bias", BIAS)) == name


@pytest.mark.parametrize(
    ("block", "bias"),
    [
        (NEW.replace("cache=None, ", ""), BIAS),
        (NEW.replace("position_bias, ", "", 1).replace("encoder_decoder_", ""), BIAS),
        (NEW.replace("encoder_attention_mask", "memory_mask"), BIAS),
        (NEW, BIAS.replace("query_length", "cache_position")),
    ],
)
def test_another_inside_of_t5_is_told_when_the_model_is_loaded(block, bias):
    with pytest.raises(ImportError, match=r"T5 in transformers \d.* is another inside; requirements.txt names"):
        cache_argument(class_with("forward", block), class_with("compute_bias", bias))
