import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AddedToken

from mmprofile.configuration_mmprofile import ProfileAttribute, ProfileSchema
from mmprofile.profile_trie_mmprofile import MAX_LINES, ProfileTrie, profile_trie
from tests.toy_processor import toy_tokenizer
from tests.toy_schemas import (
    SCHEMAS,
    TOKENIZERS,
    all_profiles,
    blind_tokenizer,
    byte_tokenizer,
    phrase_tokenizer,
    unigram_tokenizer,
)


def walks(trie: ProfileTrie) -> list[tuple[dict, list[int]]]:
    """Every profile with the tokens of its walk, in the trie's order."""
    found, stack = [], [(trie.start.tokens, trie.start.choices, trie.start.target)]
    while stack:
        tokens, choices, target = stack.pop()
        if target is None:
            found.append((trie.profile(*trie.values(np.array([choices])).tolist()), list(tokens)))
            continue
        branches = trie.branches(target)
        assert len(branches) > 1
        for branch in reversed(branches):
            stack.append((tokens + branch.tokens, choices + branch.choices, branch.target))
    return found


def label(tokenizer, text: str) -> list[int]:
    ids = tokenizer(text).input_ids
    return ids if ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]


def by_text(schema: ProfileSchema, pairs) -> list:
    return sorted((schema.render(profile), ids) for profile, ids in pairs)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", SCHEMAS)
def test_the_walks_are_the_ids_of_all_profiles_each_once(kind, name):
    schema, tokenizer = SCHEMAS[name], TOKENIZERS[kind]()
    trie = ProfileTrie(schema, tokenizer)
    expected = [(profile, label(tokenizer, schema.render(profile))) for profile in all_profiles(schema)]
    assert by_text(schema, walks(trie)) == by_text(schema, expected)
    assert trie.size == len(expected)
    assert trie.longest >= max(len(ids) for _, ids in expected)
    assert trie.largest_token == max(max(ids) for _, ids in expected)


@pytest.mark.parametrize("make", [unigram_tokenizer, byte_tokenizer])
def test_a_tokenizer_of_words_gives_a_slot_a_value(make):
    assert ProfileTrie(SCHEMAS["several"], make()).num_slots == 6


def test_the_papers_schema_is_3600_profiles_in_seven_slots():
    trie = ProfileTrie(ProfileSchema(), byte_tokenizer())
    assert (trie.size, trie.num_slots) == (3600, 7)


def test_where_the_line_cannot_be_cut_the_lines_are_the_trie():
    assert ProfileTrie(SCHEMAS["several"], phrase_tokenizer()).num_slots == 1


def test_a_line_that_cannot_be_cut_of_too_many_profiles_is_refused():
    attributes = [ProfileAttribute(f"Budget {i}", ("Low", "High", "True", "False")) for i in range(8)]
    with pytest.raises(ValueError, match=f"at most {MAX_LINES} profiles, this one has 65536"):
        ProfileTrie(ProfileSchema((*SCHEMAS["several"].attributes[:0], *attributes)), phrase_tokenizer())


def test_values_with_the_same_ids_keep_a_walk_each():
    schema = ProfileSchema((ProfileAttribute("Size", ("grand", "vast", "small")),))
    assert [(p["size"], ids) for p, ids in walks(ProfileTrie(schema, toy_tokenizer()))] == [
        ("grand", [6, 2, 1]),
        ("vast", [6, 2, 1]),
        ("small", [6, 7, 1]),
    ]


def test_branches_are_literally_these():
    schema = ProfileSchema(
        (ProfileAttribute("Size", ("small", "large")), ProfileAttribute("Colours", ("red", "green"), 2))
    )
    trie = ProfileTrie(schema, toy_tokenizer())
    assert (trie.start.tokens, trie.start.choices) == ((6,), ())
    small, large = trie.branches(trie.start.target)
    # "small | Colours: red, green </s>": behind the size there is no choice
    assert (small.tokens, small.choices, small.target) == ((7, 9, 18, 21, 20, 1), (0, 0, 1), None)
    assert large.tokens == (8, 9, 18, 21, 20, 1)


def test_a_schema_of_one_profile_starts_complete():
    schema = ProfileSchema((ProfileAttribute("Size", ("small",)),))
    trie = ProfileTrie(schema, toy_tokenizer())
    assert (trie.start.tokens, trie.start.choices, trie.start.target) == ((6, 7, 1), (0,), None)


def test_a_start_token_of_the_tokenizer_begins_every_walk():
    tokenizer = toy_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="| $A </s>", special_tokens=[("|", 9), ("</s>", 1)]
    )
    schema = ProfileSchema((ProfileAttribute("Size", ("small", "large")),))
    assert [ids for _, ids in walks(ProfileTrie(schema, tokenizer))] == [[9, 6, 7, 1], [9, 6, 8, 1]]


def test_a_tokenizer_without_end_is_refused():
    tokenizer = blind_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="eos_token"):
        ProfileTrie(SCHEMAS["alike"], tokenizer)


def test_a_large_schema_has_a_trie_at_once():
    attributes = [ProfileAttribute(f"A{i}", tuple(f"v{j}" for j in range(300)), 1 + i % 3) for i in range(6)]
    trie = ProfileTrie(ProfileSchema(tuple(attributes)), byte_tokenizer())
    assert trie.size > 10**20
    assert len(trie.branches(trie.start.target)) > 1


CHANGES = {
    "tokens are added": lambda tokenizer: tokenizer.add_tokens(["Low", "Spas"]),
    "a token joins two values": lambda tokenizer: tokenizer.add_tokens(["Spas | Budget Range: High"]),
    "a token takes the blank before it": lambda tokenizer: tokenizer.add_tokens([AddedToken("Low", lstrip=True)]),
    "letters are small": lambda tokenizer: setattr(tokenizer.backend_tokenizer, "normalizer", normalizers.Lowercase()),
    "words are cut": lambda tokenizer: setattr(
        tokenizer.backend_tokenizer, "pre_tokenizer", pre_tokenizers.Split("ow", "isolated")
    ),
    "lines end otherwise": lambda tokenizer: setattr(tokenizer, "eos_token", "<unk>"),
    "lines begin otherwise": lambda tokenizer: setattr(
        tokenizer.backend_tokenizer,
        "post_processor",
        TemplateProcessing(single="<unk> $A </s>", special_tokens=[("<unk>", 2), ("</s>", 1)]),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tokenizer_that_was_changed_has_another_trie(change):
    schema, tokenizer = SCHEMAS["several"], unigram_tokenizer()
    lines = [schema.render(profile) for profile in all_profiles(schema)]
    before, ids = profile_trie(schema, tokenizer), [label(tokenizer, line) for line in lines]
    CHANGES[change](tokenizer)
    changed = [label(tokenizer, line) for line in lines]
    assert changed != ids
    after = profile_trie(schema, tokenizer)
    assert after is not before
    assert sorted(walk for _, walk in walks(after)) == sorted(changed)


def test_the_trie_is_built_once_for_a_schema_and_a_tokenizer():
    tokenizer = byte_tokenizer()
    assert profile_trie(SCHEMAS["alike"], tokenizer) is profile_trie(SCHEMAS["alike"], tokenizer)
    assert profile_trie(SCHEMAS["several"], tokenizer) is not profile_trie(SCHEMAS["alike"], tokenizer)
