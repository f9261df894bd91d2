"""A schema's trie as `generate`'s `prefix_allowed_tokens_fn`: what is written is a profile of the schema."""

import torch

from .profile_trie_mmprofile import ProfileTrie


class AllowedTokens:
    """The tokens that may follow a prefix.

    Args:
        trie: of the schema, by the model's tokenizer.
        pad_token: what follows a profile that has ended.
        start: tokens before a profile begins: one where the decoder has a start token, a causal model's prompt.
    """

    def __init__(self, trie: ProfileTrie, pad_token: int, start: int = 1):
        self._trie, self._pad_token, self._start = trie, pad_token, start
        # Prefix -> where it stands: what is left of a branch's tokens, and the place behind them.
        self._places: dict[tuple[int, ...], list[tuple]] = {(): [(trie.start.tokens, trie.start.target)]}
        self._allowed: dict[tuple[int, ...], list[int]] = {}

    def __call__(self, row: int, ids: torch.Tensor) -> list[int]:
        prefix = tuple(ids.tolist()[self._start :])
        if prefix not in self._allowed:
            self._allowed[prefix] = sorted({tokens[0] for tokens, _ in self._branches(prefix)}) or [self._pad_token]
        return self._allowed[prefix]

    def _branches(self, prefix: tuple[int, ...]) -> list[tuple]:
        found = []
        for tokens, target in self._places_of(prefix):
            if tokens:
                found.append((tokens, target))
            elif target is not None:
                found += [(branch.tokens, branch.target) for branch in self._trie.branches(target)]
        return found

    def _places_of(self, prefix: tuple[int, ...]) -> list[tuple]:
        if prefix not in self._places:
            before = self._branches(prefix[:-1])
            self._places[prefix] = [(tokens[1:], target) for tokens, target in before if tokens[0] == prefix[-1]]
        return self._places[prefix]
