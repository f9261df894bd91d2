"""T5's decoder over trees of prefixes, and mT5's and umT5's.

A decoder call takes a tree of prefixes for each user; text in which the schema leaves no choice goes through with the
prefix before it.

Shapes, throughout:
    rows    views of users that still search, a user's one behind the other
    width   tokens that a call feeds a user, padded
    memory  earlier tokens that these see, padded
"""

from collections.abc import Sequence
from functools import lru_cache
from inspect import signature
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.models.t5.modeling_t5 import T5Attention, T5Block

from .int8_mmprofile import ATTENTION
from .profile_prefixes_mmprofile import Branches, Prefixes, places_in, sums_before
from .profile_search_mmprofile import Call
from .user_views_mmprofile import UserViews

BLOCK_ARGUMENTS = {"attention_mask", "encoder_hidden_states", "encoder_attention_mask"}
# Of T5's and mT5's blocks; in umT5's each layer computes a bias of its own.
BIAS_ARGUMENTS = {"position_bias", "encoder_decoder_position_bias"}
HEAD_ROWS = 1024  # positions whose logits over the vocabulary are held at once


@lru_cache
def cache_argument(block: type = T5Block, attention: type = T5Attention, biased: bool = True) -> str:
    """What a block of T5, mT5 or umT5 calls the cache, `past_key_values` before transformers 5.24; the rest of their
    inside that is called here has no other name.

    Args:
        block, attention: the classes.
        biased: whether the block is given its bias.

    Raises:
        ImportError: if the installed transformers' is another inside.
    """
    known, biases = (set(signature(call).parameters) for call in (block.forward, attention.compute_bias))
    names = [name for name in ("cache", "past_key_values") if name in known]
    needed = BLOCK_ARGUMENTS | (BIAS_ARGUMENTS if biased else set())
    if not names or not known >= needed or not biases >= {"query_length", "key_length", "device"}:
        raise ImportError(
            f"generate_profiles calls the blocks of T5's decoder, and T5 in transformers {transformers.__version__} is"
            " another inside; requirements.txt names the versions that fit"
        )
    return names[0]


cache_argument()  # told at load


class NotFiniteError(ValueError):
    """The model's logits for some users are no numbers; what it says holds for each of them.

    Args:
        users: their places in the batch.
        dtype: of the logits.

    Attributes:
        predictions: where `generate_profiles` raises it, one a user, None for these.
    """

    def __init__(self, users: Sequence[int], dtype: torch.dtype):
        self.users, self.dtype = list(users), dtype
        self.predictions: list | None = None
        cure = "; torch.bfloat16 or torch.float32 has room for larger ones" if dtype == torch.float16 else ""
        self.problem = f"what the model computes of this user is not finite in {dtype}{cure}"
        super().__init__(f"users {self.users} of the batch: {self.problem}")


class TreeDecoder:
    """T5's decoder over trees of prefixes: a token sees its own ancestors, at their distance in the text.

    The encoder's keys and values are computed once a row. The prefixes' own stay in one memory, from which a call
    takes the ancestors that it needs. All of a user's rows are fed the same.

    Args:
        text_model: T5's, mT5's or umT5's, with its decoder and head.
        state: (rows, seq, d_model), what the decoder attends to.
        mask: (rows, seq), 1 where it may; None for everywhere.
        longest: how many tokens a text has at most.
        views: whose the rows are.
    """

    def __init__(
        self,
        text_model: PreTrainedModel,
        state: torch.Tensor,
        mask: torch.Tensor | None,
        longest: int,
        views: UserViews,
    ):
        self.model: Any = text_model
        # A device map may put the decoder elsewhere than the encoder; a part that it moves by hooks has no data here.
        device = self.model.decoder.final_layer_norm.weight.device
        self.state = state = state if device.type == "meta" else state.to(device)
        self.views, self.users = views, np.arange(views.users)  # who still search
        self.cross = DynamicCache()
        self.memory = Memory(state.device)
        attentions = [block.layer[0].SelfAttention for block in self.model.decoder.block]
        self.own_bias = attentions if text_model.config.model_type == "umt5" else []  # what adds a bias by itself
        self.cache_name = cache_argument(
            type(self.model.decoder.block[0]), type(attentions[0]), biased=not self.own_bias
        )
        # The last query of a text has every distance to its keys: (heads, longest + 1), by distance.
        self.distance_bias = [
            attention.compute_bias(query_length=longest + 1, key_length=longest + 1, device=state.device)[0, :, -1]
            .flip(-1)
            .to(state.device)
            for attention in self.own_bias or attentions[:1]
        ]
        self.cross_bias = state.new_zeros(len(state), 1, 1, state.shape[1])
        if mask is not None:
            self.cross_bias.masked_fill_(~mask.to(state.device, torch.bool)[:, None, None], _lowest(state))

    def __call__(self, prefixes: Prefixes, branches: Branches, call: Call) -> tuple[np.ndarray, np.ndarray]:
        """What `ProfileSearch.update` takes for the call; notes the prefixes' columns.

        Raises:
            NotFiniteError: if the model's logits are not finite.
        """
        self._drop_finished(np.unique(prefixes.user[call.prefixes]))
        tree = Tree(prefixes, branches, call.prefixes, self.users, self.views.counts[self.users])
        inside, follows, asked = _targets(prefixes, branches, call)
        owner = prefixes.user[call.prefixes].repeat(branches.fed[prefixes.branch[call.prefixes]])[follows]
        target, view = np.nonzero(self.views.there[owner])
        hidden, first = self._decode(tree)
        values = self._log_probabilities(hidden, tree.place(follows[target], owner[target], view), asked[target])
        if not (finite := np.isfinite(values)).all():
            raise NotFiniteError(np.unique(owner[target[~finite]]).tolist(), hidden.dtype)
        prefixes.column[call.prefixes] = first + tree.places
        prefixes.stride[call.prefixes] = tree.tokens.shape[1]
        of_views = np.zeros((len(owner), self.views.most))
        of_views[target, view] = values
        rest, of_children = np.zeros((*inside.shape, self.views.most)), inside.sum()
        rest[inside] = of_views[:of_children]
        return rest.sum(axis=1), of_views[of_children:]

    def _drop_finished(self, users: np.ndarray):
        """Takes other users' rows out once they are a quarter; it copies these users' keys and values."""
        if len(users) <= 0.75 * len(self.users):
            rows = np.isin(self.users, users).repeat(self.views.counts[self.users]).nonzero()[0]
            left = torch.from_numpy(rows)  # on the CPU: layers may be on several devices
            self.users = users
            self.cross_bias = self.cross_bias[left]
            if self.cross.layers:
                self.cross.batch_select_indices(left)

    def _decode(self, tree: "Tree") -> tuple[torch.Tensor, int]:
        """(fed tokens, d_model), after the decoder's final norm; and the memory's column of the first place."""
        decoder, device = self.model.decoder, self.state.device
        tokens, fed, index, position, member, related = (
            torch.from_numpy(array).to(device)
            for array in (tree.tokens, tree.fed, tree.index, tree.position, tree.member, tree.related)
        )
        memory, width = index.shape[1], tokens.shape[1]
        # In tokens along the text, from a token back to what it may see: (rows, width, memory + width).
        distance = position[:, memory:, None] - position[:, None]
        mine = member[:, memory:, None].expand(-1, -1, related.shape[2])
        visible = related.gather(1, mine).gather(2, member[:, None].expand(-1, width, -1)) & (distance >= 0)
        cache = EncoderDecoderCache(self.memory.read(index), self.cross)
        hidden = decoder.embed_tokens(tokens).to(device)
        arguments = {"encoder_hidden_states": self.state, self.cache_name: cache}
        if not self.own_bias:
            bias = self._bias(0, distance, visible)
            # The masks are in the biases; without any mask, the attention would take the tokens for a plain sequence.
            no_mask = bias.new_zeros(1, 1, 1, 1)
            masks = {"attention_mask": no_mask, "encoder_attention_mask": no_mask}
            biases = {"position_bias": bias, "encoder_decoder_position_bias": self.cross_bias}
            for block in decoder.block:
                hidden = block(hidden, **arguments, **masks, **biases)[0]
        else:
            for layer, block in enumerate(decoder.block):
                mask = self._bias(layer, distance, visible, memory)
                hidden = block(hidden, **arguments, attention_mask=mask, encoder_attention_mask=self.cross_bias)
        if decoder.config._attn_implementation == ATTENTION:
            layers: list[Any] = self.cross.layers
            for layer in layers:  # once, which each call else does again
                layer.keys, layer.values = layer.keys.bfloat16(), layer.values.bfloat16()
        first = self.memory.write(cache.self_attention_cache, memory)
        return decoder.final_layer_norm(hidden).to(device).flatten(0, 1)[fed], first

    def _bias(
        self, layer: int, distance: torch.Tensor, visible: torch.Tensor, memory: int | None = None
    ) -> torch.Tensor:
        """(rows, heads, width, memory + width), lowest where a token is not to be seen; with `memory`, less what the
        layer adds by itself, as if the tokens stood one behind the other."""
        bias = self.distance_bias[layer][:, distance.clamp(min=0)].transpose(0, 1)
        if memory is not None:
            width, length = distance.shape[1:]
            own = self.own_bias[layer].compute_bias(
                query_length=width, key_length=length, device=bias.device, past_seen_tokens=memory
            )
            bias = bias - own.to(bias.device)
        return bias.masked_fill(~visible[:, None], _lowest(bias)).contiguous()

    def _log_probabilities(self, hidden: torch.Tensor, positions: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Log-probability over the whole vocabulary, in float32, of each token behind the position beside it."""
        # mT5 never scales, umT5 always did before transformers 5.24: their configurations say nothing of it.
        if getattr(self.model.config, "scale_decoder_outputs", self.model.config.model_type == "umt5"):
            hidden = hidden * self.model.model_dim**-0.5
        order = positions.argsort(kind="stable")
        wanted = torch.from_numpy(np.stack([positions[order], tokens[order]])).to(hidden.device)
        starts = range(0, len(hidden), HEAD_ROWS)
        ends, parts = np.searchsorted(positions[order], np.array([*starts, len(hidden)])), []
        for start, (first, last) in zip(starts, pairwise(ends), strict=True):
            # log_softmax and not logsumexp: rounded alike, scores compare with teacher forcing and beam search.
            logits = self.model.lm_head(hidden[start : start + HEAD_ROWS]).to(hidden.device)
            scores = logits.float().log_softmax(dim=-1)
            parts.append(scores[wanted[0, first:last] - start, wanted[1, first:last]])
        values = np.empty(len(order))
        values[order] = torch.cat(parts).cpu().numpy()
        return np.minimum(values, 0.0)


class Memory:
    """Keys and values of the tokens decoded so far, of all users, on one device wherever the layers are."""

    def __init__(self, device: torch.device):
        self.device, self.layer_devices = device, []
        self.states: torch.Tensor | None = None  # (layers, 2, heads, capacity, d_kv)
        self.used = 0

    def read(self, index: torch.Tensor) -> DynamicCache:
        """The columns of `index` (rows, memory) as a cache."""
        cache = DynamicCache()
        if index.shape[1]:
            assert self.states is not None
            picked = self.states[:, :, :, index.flatten()].unflatten(3, index.shape).transpose(2, 3)
            for layer, (keys, values) in enumerate(picked):  # (rows, heads, memory, d_kv)
                cache.update(keys.to(self.layer_devices[layer]), values.to(self.layer_devices[layer]), layer)
        return cache

    def write(self, cache: Cache, length: int) -> int:
        """Keeps what stands in the cache behind `length`; returns the first one's column, row by row."""
        layers: list[Any] = cache.layers
        self.layer_devices = [layer.keys.device for layer in layers]
        new = [torch.stack((layer.keys[:, :, length:], layer.values[:, :, length:])) for layer in layers]
        new = torch.stack([states.to(self.device) for states in new])
        new = new.transpose(2, 3).flatten(3, 4)  # (layers, 2, heads, rows * width, d_kv)
        first, self.used = self.used, self.used + new.shape[3]
        if self.states is None or self.used > self.states.shape[3]:
            # By a quarter: the old one is there beside it, and after many calls it is what fills a GPU.
            grown = new.new_empty(*new.shape[:3], self.used + self.used // 4, new.shape[4])
            if self.states is not None:
                grown[:, :, :, :first] = self.states[:, :, :, :first]
            self.states = grown
        self.states[:, :, :, first : self.used] = new
        return first


class Tree:
    """The arrays of one call.

    Args:
        prefixes: of the search.
        branches: those that the prefixes' numbers are of.
        numbers: (prefixes,), those of this call, sorted by user, parents before children.
        users: who search, ascending.
        counts: (users,), how many rows each one has.

    Attributes:
        tokens: (rows, width).
        fed: (fed tokens,), their places among (rows * width), ascending; the others are padding.
        index: (rows, memory), columns of the decoder's memory.
        position: (rows, memory + width), in the text, of the tokens of the memory and of the call.
        member: (rows, memory + width), to which of the row's prefixes a token belongs; padding to one of its own.
        related: (rows, members, members), whether a prefix of the call continues another one, or is it.
        places: (prefixes,), of each one's first token among (rows * width), in the user's first row.
    """

    def __init__(
        self, prefixes: Prefixes, branches: Branches, numbers: np.ndarray, users: np.ndarray, counts: np.ndarray
    ):
        descendant, ancestor = _lineages(prefixes, numbers)
        kept = np.unique(ancestor)
        kept = kept[prefixes.column[kept] >= 0]
        kept = kept[prefixes.user[kept].argsort(kind="stable")]
        old, new = (_Layout(prefixes, branches, x, users) for x in (kept, numbers))
        member = np.empty_like(prefixes.user)
        member[kept], member[numbers], padding = old.place, old.most + new.place, old.most + new.most
        # A line a user, of which each row of the user is a copy.
        line, first = np.arange(len(users)).repeat(counts), np.cumsum(counts) - counts
        view = places_in(line)
        self.places = first[new.row] * new.width + new.offset
        self.tokens = new.put(branches.tokens[prefixes.branch[numbers]][new.owner, new.step])[line]
        column, stride = (old.put(of[kept][old.owner]) for of in (prefixes.column, prefixes.stride))
        self.index = column[line] + old.put(old.step)[line] + view[:, None] * stride[line]
        self.position = np.hstack([x.put(prefixes.start[x.numbers][x.owner] + x.step) for x in (old, new)])[line]
        self.member = np.hstack([x.put(member[x.numbers][x.owner], padding) for x in (old, new)])[line]
        self.related = np.zeros((len(users), padding + 1, padding + 1), bool)
        self.related[:, padding, padding] = True  # a row that sees nothing may be nan to a GPU's attention
        self.related[new.row, member[numbers], member[numbers]] = True
        self.related[new.row[descendant], member[numbers][descendant], member[ancestor]] = True
        self.related = self.related[line]
        fed = new.put(np.ones(len(new.owner), bool))[line]
        self.fed = fed.ravel().nonzero()[0]
        self._users, self._first, per_row = users, first, fed.sum(axis=1)
        self._before = np.cumsum(per_row) - per_row  # (rows,), fed tokens in the rows above
        self._before_line = np.cumsum(per_row[first]) - per_row[first]

    def place(self, among: np.ndarray, user: np.ndarray, view: np.ndarray) -> np.ndarray:
        """Of tokens, by their places among those that all users are fed, each once: their places among `fed`, in the
        row of a view."""
        line = np.searchsorted(self._users, user)
        return self._before[self._first[line] + view] + among - self._before_line[line]


class _Layout:
    """The tokens of prefixes, sorted by user, one prefix behind the other in a row for each user.

    Attributes:
        numbers: of the prefixes.
        row, place, offset: (prefixes,), of each its row, how many stand before it there, and how many tokens.
        owner, step: (tokens,), of each its prefix among `numbers`, and how many of the prefix stand before it.
        cells: (tokens,) twice, of each its row and its column.
        width, most: the tokens, and the prefixes, of the row that has most.
    """

    def __init__(self, prefixes: Prefixes, branches: Branches, numbers: np.ndarray, users: np.ndarray):
        length = branches.fed[prefixes.branch[numbers]]
        self.numbers, self.rows = numbers, len(users)
        self.row = np.searchsorted(users, prefixes.user[numbers])
        self.place, self.offset = places_in(self.row), sums_before(self.row, length)
        self.owner = np.arange(len(numbers)).repeat(length)
        self.step = places_in(self.owner)
        self.cells = self.row[self.owner], self.offset[self.owner] + self.step
        self.width, self.most = max(self.offset + length, default=0), max(self.place + 1, default=0)

    def put(self, values: np.ndarray, padding: int = 0) -> np.ndarray:
        """(rows, width), the tokens' values in their places."""
        array = np.full((self.rows, self.width), padding, values.dtype)
        array[self.cells] = values
        return array


def _lineages(prefixes: Prefixes, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of one of these, by its place among them, and an ancestor of it, by number."""
    places, ancestors, place, number = [], [], np.arange(len(numbers)), numbers
    while len(number):
        parent = prefixes.parent[number]
        place, number = place[parent >= 0], parent[parent >= 0]
        places.append(place)
        ancestors.append(number)
    return np.concatenate(places), np.concatenate(ancestors)


def _targets(prefixes: Prefixes, branches: Branches, call: Call) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is asked of a call: (prefixes, longest - 1), where a prefix has tokens behind its first; then, for these
    and for the first token of each child, (targets,), the place among the fed tokens before it and the token."""
    branch = prefixes.branch[call.prefixes]
    fed, tokens = branches.fed[branch], branches.tokens[branch]
    before, step = np.cumsum(fed) - fed, np.arange(1, tokens.shape[1])
    inside = step < branches.length[branch][:, None]
    last = np.empty_like(prefixes.user)
    last[call.prefixes] = before + fed - 1
    follows = np.append((before[:, None] + step - 1)[inside], last[prefixes.parent[call.children]])
    return inside, follows, np.append(tokens[:, 1:][inside], branches.tokens[prefixes.branch[call.children], 0])


def _lowest(tensor: torch.Tensor) -> float:
    return torch.finfo(tensor.dtype).min
