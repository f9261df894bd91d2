"""How much each view of a user made of the profile found, from one search."""

import numpy as np

from .profile_search_mmprofile import ProfileSearch
from .user_views_mmprofile import UserViews

NOISE = 1e-4  # a logarithm's fall that rounding in 32 bits may make


def view_weights(search: ProfileSearch) -> list[list[float]]:
    """Of each user of a search that is over, the share that each view has in what speaks for the profile found.

    A view's is by how much the logarithm of the profile's probability falls when the view is left out, as far as the
    search can tell without a decoder call: the profiles explored are scored anew without it, and so are the beginnings
    of all others, which stand for what is behind them. A view without which the profile would be no less probable has
    weight 0; where that is so of all, as of views that are alike, they have equal ones.

    Returns:
        A list a user of one weight a view, non-negative, their sum 1.
    """
    prefixes, views = search.prefixes, search.views
    explored, left = search.explored, search.left
    known = np.concatenate([explored, left])
    scores = np.concatenate([prefixes.view_score[explored], prefixes.view_bound[left]])  # (known, views)
    chosen = np.full(len(known), False)
    chosen[: len(explored)] = np.isin(explored, prefixes.best(explored, prefixes.score[explored]))
    user, falls = prefixes.user[known], np.zeros((views.users, views.most))
    whole = _log_shares(views, user, scores, chosen)
    for view in range(views.most if views.most > 1 else 0):
        others = UserViews(np.maximum(views.counts - (views.counts > view), 1), views.combination)
        # Who has not this view keeps all of his: those behind it are padding.
        rest = np.delete(scores, view, axis=1)
        falls[:, view] = np.where(views.there[:, view], whole - _log_shares(others, user, rest, chosen), 0)
    falls[falls < NOISE] = 0
    sums = falls.sum(axis=1, keepdims=True)
    weights = np.where(sums > 0, falls / np.where(sums > 0, sums, 1), views.there / views.counts[:, None])
    return [row[:count].tolist() for row, count in zip(weights, views.counts, strict=True)]


def _log_shares(views: UserViews, user: np.ndarray, scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(users,), the logarithm of the share that each one's chosen prefix has among his."""
    values = views.combined(user, scores)
    top = np.full(views.users, -np.inf)
    np.maximum.at(top, user, values)
    sums = np.bincount(user, np.exp(values - top[user]), views.users)
    own = np.empty(views.users)
    own[user[chosen]] = values[chosen]
    return own - top - np.log(sums)
