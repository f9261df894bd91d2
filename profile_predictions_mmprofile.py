"""What a search tells of a user's profile: the best ones, and the probability of each value."""

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
        probabilities: key -> value -> probability, in schema order; an attribute's sum to its count. With `coverage` 1
            they are the exact marginals over the schema, else estimates: shares among the explored profiles and the
            beginnings of all others, as far as the search came to the attribute's values in them; a value begun is
            shared out by what its next tokens were worth elsewhere, evenly where they were not seen. They are the
            model's own, not those of its calibration, which `profile_users` tells.
        coverage: the share of the schema's probability mass that the explored profiles have. A lower bound, since an
            unexplored prefix counts with its whole mass; 1 if every profile is explored.
        decoder_calls: how many decoder calls this user took part in.
        decoder_tokens: how many tokens they fed for this user.
        image_weights: with `output_fusion`, the photos' sparsemax attention (Eq. 6) averaged over the text's
            positions, summing to 1, 0 for one not looked at; empty without photos.
        gate: with `output_fusion`, the mean of Eq. 7's gate over the text's positions and channels, from -1 to 1;
            None without photos. With `fusion="concat"`, which has neither, both are None.
        vector: with `output_vector`, d_model numbers: the mean of the states that the decoder attends to, H_fused
            (Eq. 8) at the positions that hold text; with `fusion="concat"` (Eq. 3) the text's and the photos' states,
            each counting alike. Of several views it is the mean of their vectors. It is the same whoever else is in
            the batch, but for rounding.
        view_weights: with `output_view_weights`, how much each of the user's views speaks for the profile, in their
            order: the share of its fall in what the profile's log-probability, among all of the schema, falls by
            when one is left out, as far as one search tells. Non-negative, summing to 1; 0 for a view without which
            the profile is no less probable. None of views whose states are joined.
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
    image_weights: list[float] | None = None
    gate: float | None = None
    vector: list[float] | None = None
    view_weights: list[float] | None = None


def marginals(
    trie: ProfileTrie, users: int, user: np.ndarray, scores: np.ndarray, choices: np.ndarray
) -> list[dict[str, dict[str, float]]]:
    """Each user's `ProfilePrediction.probabilities`, from prefixes of which none begins with another.

    An attribute's are shares among the prefixes that have all its values, weighed by their probability.

    Args:
        trie: of the schema.
        users: how many there are; each has a complete prefix.
        user: (prefixes,), whose each one is.
        scores: (prefixes,), log-probabilities.
        choices: (prefixes, slots), indices of the slots' values; -1 where there is none yet.
    """
    values, place, found = trie.values(choices), 0, []
    for attribute in trie.schema.attributes:
        chosen = values[:, place : place + attribute.count]
        has_all = chosen.min(axis=1) >= 0
        whose, score, chosen = user[has_all], scores[has_all], chosen[has_all]
        highest = np.full(users, -np.inf)
        np.maximum.at(highest, whose, score)
        cells = whose[:, None] * len(attribute.values) + chosen
        masses = np.exp(score - highest[whose]).repeat(attribute.count)
        shares = np.bincount(cells.ravel(), masses, users * len(attribute.values)).reshape(users, -1)
        shares *= attribute.count / shares.sum(axis=1, keepdims=True)
        found.append([dict(zip(attribute.values, row, strict=True)) for row in shares.tolist()])
        place += attribute.count
    return [dict(zip(trie.schema.keys, of_user, strict=True)) for of_user in zip(*found, strict=True)]


def describe_profiles(
    trie: ProfileTrie,
    scores: np.ndarray,
    choices: np.ndarray,
    num_return_profiles: int,
    *,
    probabilities: dict[str, dict[str, float]],
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
    best, *others = (trie.profile(row) for row in trie.values(choices[:num_return_profiles]).tolist())
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
