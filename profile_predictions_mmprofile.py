"""What is known of a user's profile, from the profiles that a search has explored."""

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


def describe_profiles(
    trie: ProfileTrie,
    scores: np.ndarray,
    choices: np.ndarray,
    num_return_profiles: int,
    *,
    exact: bool,
    coverage: float,
    decoder_calls: int,
    decoder_tokens: int,
) -> ProfilePrediction:
    """From a user's explored profiles.

    Args:
        trie: of the schema.
        scores: (profiles,), log-probabilities, the best first.
        choices: (profiles, slots), indices of the slots' values.
        num_return_profiles: the best one and how many runners-up.
    """
    values, weights = trie.values(choices), np.exp(scores - scores[0])
    weights /= weights.sum()
    probabilities, place = {}, 0
    for attribute in trie.schema.attributes:
        chosen = values[:, place : place + attribute.count]
        shares = np.bincount(chosen.ravel(), weights.repeat(attribute.count), len(attribute.values))
        probabilities[attribute.key] = dict(zip(attribute.values, shares.tolist(), strict=True))
        place += attribute.count
    best, *others = (trie.profile(row) for row in values[:num_return_profiles].tolist())
    return ProfilePrediction(
        profile=best,
        text=trie.schema.render(best),
        log_probability=scores[0].item(),
        exact=exact,
        runners_up=list(zip(others, scores[1:].tolist(), strict=False)),
        probabilities=probabilities,
        coverage=coverage,
        decoder_calls=decoder_calls,
        decoder_tokens=decoder_tokens,
    )
