"""What is known of a user's profile, from the profiles that a search has explored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .configuration_mmprofile import Profile
from .profile_trie_mmprofile import ProfileTrie


@dataclass
class ProfilePrediction:
    """The profile of one user.

    Args:
        profile: the most probable profile found.
        text: its one line.
        log_probability: of the text and `</s>` under the model; natural logarithm, at most 0.
        exact: True where no profile of the schema can have a higher log-probability (the proof is complete).
        runners_up: the next best profiles found with their log-probabilities, best first.
        probabilities: key -> value -> probability among the profiles explored, in schema order; an attribute's sum to
            its count. With `coverage` 1 they are the exact marginals over the schema.
        coverage: the share of the schema's probability mass that the explored profiles have. A lower bound, since an
            unexplored prefix counts with its whole mass; 1 if every profile is explored.
        decoder_calls: how many decoder calls this user took part in.
        decoder_tokens: how many tokens they fed for this user.
    """

    profile: Profile
    text: str
    log_probability: float
    exact: bool
    runners_up: list[tuple[Profile, float]]
    probabilities: dict[str, dict[str, float]]
    coverage: float
    decoder_calls: int
    decoder_tokens: int


def ranked_predictions(
    trie: ProfileTrie,
    num_return_profiles: int,
    user: np.ndarray,
    choices: np.ndarray,
    score: np.ndarray,
    **facts: Sequence,
) -> list[ProfilePrediction]:
    """One prediction a user.

    Args:
        trie: of the schema.
        num_return_profiles: the best one and how many runners-up.
        user: (profiles,), of each explored profile; every user has one.
        choices: (profiles, slots), as in `Branch`.
        score: (profiles,), log-probabilities.
        facts: the other fields, a value for each user.
    """
    order = np.lexsort((*choices.T[::-1], -score, user))  # of each user the best first, equals in schema order
    user, score, values = user[order], score[order], trie.values(choices[order])
    first = np.unique(user, return_index=True)[1]
    return [
        _prediction(trie, num_return_profiles, score[mine], values[mine], dict(zip(facts, row, strict=True)))
        for mine, *row in zip(np.split(np.arange(len(user)), first[1:]), *facts.values(), strict=True)
    ]


def _prediction(trie: ProfileTrie, num_return_profiles: int, score: np.ndarray, values: np.ndarray, facts: dict):
    """From one user's profiles, ranked: `score` (profiles,) and `values` (profiles, places)."""
    weights = np.exp(score - score[0])
    weights /= weights.sum()
    probabilities, place = {}, 0
    for attribute in trie.schema.attributes:
        chosen = values[:, place : place + attribute.count]
        shares = np.bincount(chosen.ravel(), weights.repeat(attribute.count), len(attribute.values))
        probabilities[attribute.key] = dict(zip(attribute.values, shares.tolist(), strict=True))
        place += attribute.count
    best = [trie.profile(row) for row in values[:num_return_profiles].tolist()]
    return ProfilePrediction(
        profile=best[0],
        text=trie.schema.render(best[0]),
        log_probability=score[0].item(),
        runners_up=list(zip(best[1:], score[1 : len(best)].tolist(), strict=True)),
        probabilities=probabilities,
        **facts,
    )
