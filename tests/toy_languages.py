"""Random languages for the search, in place of a decoder."""

from math import inf

import numpy as np

from mmprofile.profile_heuristic_mmprofile import SearchLimits
from mmprofile.profile_predictions_mmprofile import ProfilePrediction
from mmprofile.profile_prefixes_mmprofile import branch_table
from mmprofile.profile_search_mmprofile import ProfileSearch
from mmprofile.profile_trie_mmprofile import ProfileTrie
from mmprofile.user_views_mmprofile import UserViews
from tests.toy_schemas import SCHEMAS, all_profiles, unigram_tokenizer

START = 0
TOKENIZER = unigram_tokenizer()
TRIES = {name: ProfileTrie(schema, TOKENIZER) for name, schema in SCHEMAS.items()}


def limits(**fields) -> SearchLimits:
    free = {"num_return_profiles": 1, "expand_per_call": 4, "expand_with_profile": 16}
    free |= {"max_calls": inf, "max_decoder_tokens": inf}
    return SearchLimits(**free | {"min_coverage": 0.0} | fields)


class Language:
    """A random language: each prefix of token ids has its own distribution over 50 tokens and over."""

    def __init__(self, seed: int, sharpness: float):
        self.seed, self.sharpness, self.known = seed, sharpness, {}

    def log_probability(self, prefix: tuple[int, ...], token: int) -> float:
        if prefix not in self.known:
            logits = np.random.default_rng([self.seed, *prefix]).normal(0, self.sharpness, 128)
            self.known[prefix] = logits - np.logaddexp.reduce(logits)
        return float(self.known[prefix][token])

    def score(self, tokens: list[int]) -> float:
        return sum(self.log_probability((START, *tokens[:i]), token) for i, token in enumerate(tokens))

    def answer(self, search: ProfileSearch, number: int) -> tuple[float, float]:
        """Log-probability of a prefix' first token, and of the others."""
        before, tokens = tuple(tokens_of(search, search.prefixes.parent[number])), own_tokens(search, number)
        values = [self.log_probability(before + tokens[:i], token) for i, token in enumerate(tokens)]
        return values[0], sum(values[1:])


def own_tokens(search: ProfileSearch, number: int) -> tuple[int, ...]:
    branch = search.prefixes.branch[number]
    return tuple(search.branches.tokens[branch, : search.branches.length[branch]].tolist())


def tokens_of(search: ProfileSearch, number: int) -> tuple[int, ...]:
    return () if number < 0 else tokens_of(search, search.prefixes.parent[number]) + own_tokens(search, number)


def searches(trie: ProfileTrie, languages: list[Language], **fields) -> ProfileSearch:
    """A user for each language."""
    found = ProfileSearch(branch_table(trie, START), limits(**fields), UserViews([1] * len(languages)))
    while call := found.select():
        users = found.prefixes.user.tolist()
        rest = [languages[users[number]].answer(found, number)[1] for number in call.prefixes]
        following = [languages[users[number]].answer(found, number)[0] for number in call.children]
        found.update(call, np.array(rest)[:, None], np.array(following)[:, None])
    return found


def search(trie: ProfileTrie, language: Language, **fields) -> ProfilePrediction:
    (found,) = searches(trie, [language], **fields).predictions()
    return found


def exhaustive(name: str, language: Language) -> list[tuple[float, dict]]:
    """All profiles with their scores, the best first."""
    schema = SCHEMAS[name]
    scored = [(language.score(TOKENIZER(schema.render(p)).input_ids), p) for p in all_profiles(schema)]
    return sorted(scored, key=lambda pair: -pair[0])
