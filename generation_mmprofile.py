"""`generate_profiles`: the most probable profile under the schema, from T5's decoder.

A decoder call takes a tree of prefixes for each user; text in which the schema leaves no choice goes through with the
prefix before it. A profile's score is the model's plain log-probability of its text, `</s>` included.

Shapes, throughout:
    rows    users that still search
    width   tokens that a call feeds a user, padded
    memory  earlier tokens that these see, padded
"""

from math import fsum, inf, isfinite

import numpy as np
import torch
from transformers import T5ForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from .configuration_mmprofile import ProfileSchema
from .linear_mmprofile import fast_linears
from .profile_search_mmprofile import ProfilePrediction, ProfileSearch, Run, SearchLimits
from .profile_trie_mmprofile import ProfileTrie, profile_trie

# A call costs as much again as about 15 to 35 tokens on a CPU, as hundreds on a GPU.
EXPAND_ON_CPU, EXPAND_ON_GPU = 12, 16
WIDER_WITH_A_PROFILE = 4  # on a GPU: what a call then expands is needed for the proof rather than a guess
# The default bound on a search's tokens, as so many profiles have; and where it is asked for more than the best one.
PROFILES_PER_SEARCH, PROFILES_FOR_COVERAGE = 6, 64
HEAD_ROWS = 1024  # positions whose logits over the vocabulary are held at once


class TreeDecoder:
    """T5's decoder over trees of prefixes: a token sees its own ancestors, at their distance in the text.

    The encoder's keys and values are computed once a user. The prefixes' own stay in one memory, from which a call
    takes the ancestors that it needs.

    Args:
        text_model: with its decoder and head.
        state: (users, seq, d_model), what the decoder attends to.
        mask: (users, seq), 1 where it may; None for everywhere.
        longest: how many tokens a text has at most.
    """

    def __init__(
        self, text_model: T5ForConditionalGeneration, state: torch.Tensor, mask: torch.Tensor | None, longest: int
    ):
        self.model, self.state = text_model, state
        self.rows = list(range(len(state)))  # the user of each row
        self.cross = DynamicCache()
        self.memory = Memory()
        attention = text_model.decoder.block[0].layer[0].SelfAttention
        # The last query of a text has every distance to its keys: (heads, longest + 1), by distance.
        self.distance_bias = attention.compute_bias(longest + 1, longest + 1)[0, :, -1].flip(-1)
        self.cross_bias = state.new_zeros(len(state), 1, 1, state.shape[1])
        if mask is not None:
            self.cross_bias.masked_fill_(~mask.to(state.device, torch.bool)[:, None, None], _lowest(state))

    def __call__(self, batch: dict[int, list[Run]]) -> dict[int, list[tuple[float, list[float]]]]:
        """User -> the runs of a call, parents first, to user -> what `ProfileSearch.update` takes.

        Raises:
            ValueError: if the model's logits are not finite.
        """
        self._drop_finished(batch)
        runs = [batch.get(user, []) for user in self.rows]
        tree = Tree(runs)
        hidden = self._decode(tree)[torch.from_numpy(tree.fed)]  # (fed tokens, d_model)
        values = iter(self._log_probabilities(hidden, *tree.targets()))
        return {
            user: [
                (fsum(next(values) for _ in run.tokens[1:]), [next(values) for _ in run.children]) for run in user_runs
            ]
            for user, user_runs in zip(self.rows, runs, strict=True)
            if user_runs
        }

    def _drop_finished(self, batch: dict[int, list[Run]]):
        """Takes finished users' rows out once they are a quarter; it copies the other users' keys and values."""
        if len(batch) <= 0.75 * len(self.rows):
            left = torch.tensor([row for row, user in enumerate(self.rows) if user in batch], device=self.state.device)
            self.rows = [user for user in self.rows if user in batch]
            self.cross_bias = self.cross_bias[left]
            if self.cross.layers:
                self.cross.batch_select_indices(left)

    def _decode(self, tree: "Tree") -> torch.Tensor:
        """(rows, width, d_model), after the decoder's final norm."""
        decoder, device = self.model.decoder, self.state.device
        tokens, position, visible, index = (
            torch.from_numpy(array).to(device) for array in (tree.tokens, tree.position, tree.visible, tree.index)
        )
        # In tokens along the text, from a token back to what it may see: (rows, width, memory + width).
        distance = (position[:, index.shape[1] :, None] - position[:, None]).clamp(min=0)
        bias = self.distance_bias[:, distance].transpose(0, 1)  # (rows, heads, width, memory + width)
        bias = bias.masked_fill(~visible[:, None], _lowest(bias)).contiguous()
        cache = EncoderDecoderCache(self.memory.read(index), self.cross)
        # The masks are in the biases; without any mask, the attention would take the tokens for a plain sequence.
        no_mask = bias.new_zeros(1, 1, 1, 1)
        hidden = decoder.embed_tokens(tokens)
        for block in decoder.block:
            hidden = block(hidden, no_mask, bias, self.state, no_mask, self.cross_bias, cache)[0]
        first = self.memory.write(cache.self_attention_cache, index.shape[1])
        tree.set_columns(first)
        return decoder.final_layer_norm(hidden)

    def _log_probabilities(self, hidden: torch.Tensor, positions: list[int], tokens: list[int]) -> list[float]:
        """Log-probability over the whole vocabulary, in float32, of each token behind the position beside it."""
        if self.model.config.scale_decoder_outputs:
            hidden = hidden * self.model.model_dim**-0.5
        positions, tokens = torch.tensor([positions, tokens], device=hidden.device)
        parts = []
        for start in range(0, len(hidden), HEAD_ROWS):
            # log_softmax and not logsumexp: rounded alike, scores compare with teacher forcing and beam search.
            scores = self.model.lm_head(hidden[start : start + HEAD_ROWS]).float().log_softmax(dim=-1)
            here = (positions >= start) & (positions < start + HEAD_ROWS)
            parts.append(scores[positions[here] - start, tokens[here]])
        values = torch.cat(parts).clamp(max=0).tolist()
        if not all(map(isfinite, values)):
            raise ValueError(
                f"the model's logits are not finite in {hidden.dtype}; T5 may need torch.bfloat16 or torch.float32"
            )
        return values


class Memory:
    """Keys and values of the tokens decoded so far, of all users."""

    def __init__(self):
        self.states = None  # (layers, 2, heads, capacity, d_kv)
        self.used = 0

    def read(self, index: torch.Tensor) -> DynamicCache:
        """The columns of `index` (rows, memory) as a cache."""
        cache = DynamicCache()
        if index.shape[1]:
            picked = self.states[:, :, :, index.flatten()].unflatten(3, index.shape).transpose(2, 3)
            for layer, (keys, values) in enumerate(picked):  # (rows, heads, memory, d_kv)
                cache.update(keys, values, layer)
        return cache

    def write(self, cache: DynamicCache, length: int) -> int:
        """Keeps what stands in the cache behind `length`; returns the first one's column, row by row."""
        new = torch.stack([torch.stack((c.keys[:, :, length:], c.values[:, :, length:])) for c in cache.layers])
        new = new.transpose(2, 3).flatten(3, 4)  # (layers, 2, heads, rows * width, d_kv)
        first, self.used = self.used, self.used + new.shape[3]
        if self.states is None or self.used > self.states.shape[3]:
            grown = new.new_empty(*new.shape[:3], 2 * self.used, new.shape[4])
            if first:
                grown[:, :, :, :first] = self.states[:, :, :, :first]
            self.states = grown
        self.states[:, :, :, first : self.used] = new
        return first


class Tree:
    """The arrays of one call.

    Attributes:
        tokens: (rows, width).
        fed: (rows, width), False where there is padding.
        index: (rows, memory), columns of the decoder's memory.
        position: (rows, memory + width), in the text, of the tokens of the memory and of the call.
        visible: (rows, width, memory + width), whether a token of the call may see another: itself and its ancestors.
    """

    def __init__(self, runs: list[list[Run]]):
        self.runs = runs
        ancestors = [_ancestors_in_memory(user_runs) for user_runs in runs]
        rows, width = len(runs), max(sum(run.fed for run in user_runs) for user_runs in runs)
        memory = max(sum(run.fed for run in user_ancestors) for user_ancestors in ancestors)
        self.tokens = np.zeros((rows, width), np.int64)
        self.fed = np.zeros((rows, width), bool)
        self.index = np.zeros((rows, memory), np.int64)
        self.visible = np.zeros((rows, width, memory + width), bool)
        self.position = np.zeros((rows, memory + width), np.int64)
        self.offsets: list[dict[Run, int]] = []
        earlier = np.tri(width, dtype=bool)
        for row, (user_runs, user_ancestors) in enumerate(zip(runs, ancestors, strict=True)):
            offsets, at = {}, 0
            for run in user_ancestors:
                offsets[run] = at
                self.index[row, at : at + run.fed] = np.arange(run.column, run.column + run.fed)
                self.position[row, at : at + run.fed] = np.arange(run.start, run.start + run.fed)
                at += run.fed
            at = memory
            for run in user_runs:
                offsets[run], here = at, slice(at, at + run.fed)
                mine = slice(at - memory, at - memory + run.fed)
                self.tokens[row, mine] = run.tokens[: run.fed]
                self.fed[row, mine] = True
                self.position[row, here] = np.arange(run.start, run.start + run.fed)
                self._see_ancestors(row, mine, run, offsets, memory)
                self.visible[row, mine, here] = earlier[: run.fed, : run.fed]
                at += run.fed
            self.offsets.append({run: offsets[run] - memory for run in user_runs})

    def _see_ancestors(self, row: int, mine: slice, run: Run, offsets: dict[Run, int], memory: int):
        parent = run.parent
        if parent is not None and parent.column is None:  # in this call: what its last token sees
            self.visible[row, mine] = self.visible[row, offsets[parent] - memory + parent.fed - 1]
            return
        while parent is not None:
            self.visible[row, mine, offsets[parent] : offsets[parent] + parent.fed] = True
            parent = parent.parent

    def targets(self) -> tuple[list[int], list[int]]:
        """Positions among the fed tokens and the tokens asked for behind them: run by run its own tokens behind the
        first, then the first of each child."""
        positions, tokens, at = [], [], 0
        for run in (run for user_runs in self.runs for run in user_runs):
            positions += range(at, at + len(run.tokens) - 1)
            positions += [at + run.fed - 1] * len(run.children)
            tokens += run.tokens[1:]
            tokens += [child.tokens[0] for child in run.children]
            at += run.fed
        return positions, tokens

    def set_columns(self, first: int):
        """Notes where the memory has kept the runs."""
        for row, offsets in enumerate(self.offsets):
            for run, offset in offsets.items():
                run.column = first + row * self.tokens.shape[1] + offset


def _ancestors_in_memory(runs: list[Run]) -> list[Run]:
    found: dict[Run, None] = {}
    for run in runs:
        ancestor = run.parent
        while ancestor is not None and ancestor.column is not None and ancestor not in found:
            found[ancestor] = None
            ancestor = ancestor.parent
    return list(found)


def _lowest(tensor: torch.Tensor) -> float:
    return torch.finfo(tensor.dtype).min


class ProfileGenerationMixin:
    """`generate_profiles` for a model with a `text_model` (T5) and an encoder that returns what its decoder sees."""

    @torch.no_grad()
    def generate_profiles(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        *,
        tokenizer,
        num_return_profiles: int = 5,
        expand_per_call: int | None = None,
        max_calls: int | None = None,
        max_decoder_tokens: float | None = None,
        min_coverage: float = 0.0,
        encoder_outputs: BaseModelOutput | None = None,
        schema: ProfileSchema | None = None,
    ) -> list[ProfilePrediction]:
        """Each user's most probable profile under the schema, and whether it is proved to be that.

        The profile is always a valid one. A trained model needs the tokens of some 2 to 15 profiles for the proof;
        fewer (`max_calls`, `max_decoder_tokens`, by default those of 6) make the search a beam, and `exact` tells
        whether it still proved its best. `max_decoder_tokens=math.inf` always proves it.

        Args:
            input_ids: (batch, seq).
            attention_mask: (batch, seq), 1 where there is a token.
            pixel_values: (batch, images, 3, height, width).
            image_mask: (batch, images), True where there is a photo.
            tokenizer: the one that made the model's labels.
            num_return_profiles: explore at least so many profiles, if the schema has them. The best one is proved,
                the runners-up are the best of the others explored.
            expand_per_call: how many prefixes of a user a decoder call expands on the way to a first profile;
                thereafter, when most are needed for the proof, up to four times as many on a GPU. Few suit a CPU,
                where users who need fewer are padded at a cost, many save calls on a GPU; the default follows the
                device.
            max_calls: decoder calls for a user at most; default: no bound.
            max_decoder_tokens: tokens fed to the decoder for a user at most; default: those of 6 profiles, or of 64
                where `min_coverage` asks for more than the best one. `math.inf` for no bound.
            min_coverage: go on until the profiles explored have this share of the schema's probability mass, from 0
                to 1. With 1 (and no bound) all are explored and `probabilities` are the exact marginals.
            encoder_outputs: to skip the encoder; with its `attention_mask`, or with the argument of this name.
            schema: default: the config's.

        Returns:
            One prediction a user.

        Raises:
            ValueError: if a number is out of range, no input is given, or the tokenizer does not fit.
        """
        trie = profile_trie(schema or self.config.profile_schema, tokenizer)
        if trie.largest_token >= self.text_model.config.vocab_size:
            raise ValueError(
                f"the tokenizer writes token {trie.largest_token}, the model's vocabulary has"
                f" {self.text_model.config.vocab_size}"
            )
        on_cpu = self.text_model.device.type == "cpu"
        if expand_per_call is None:
            expand_per_call = EXPAND_ON_CPU if on_cpu else EXPAND_ON_GPU
        if encoder_outputs is None and input_ids is None:
            raise ValueError("generate_profiles takes input_ids or encoder_outputs, got neither")
        profiles = PROFILES_FOR_COVERAGE if min_coverage > 0 else PROFILES_PER_SEARCH
        limits = SearchLimits(
            num_return_profiles,
            expand_per_call,
            expand_per_call * (1 if on_cpu else WIDER_WITH_A_PROFILE),
            inf if max_calls is None else max_calls,
            profiles * trie.longest if max_decoder_tokens is None else max_decoder_tokens,
            min_coverage,
        )
        limits.check(trie.longest)
        with fast_linears(self.text_model.device):
            if encoder_outputs is None:
                encoder_outputs = self.get_encoder()(
                    input_ids=input_ids,
                    attention_mask=attention_mask,
                    pixel_values=pixel_values,
                    image_mask=image_mask,
                )
            return self._search(trie, limits, encoder_outputs, attention_mask)

    def _search(
        self, trie: ProfileTrie, limits: SearchLimits, encoder_outputs: BaseModelOutput, mask: torch.Tensor | None
    ) -> list[ProfilePrediction]:
        mask = encoder_outputs.get("attention_mask", mask)  # concatenated photos lengthen the sequence
        decoder = TreeDecoder(self.text_model, encoder_outputs.last_hidden_state, mask, trie.longest)
        start = self.text_model.config.decoder_start_token_id
        searches = [ProfileSearch(trie, start, limits) for _ in encoder_outputs.last_hidden_state]
        batch = dict(enumerate(searches))
        while batch := {user: runs for user in batch if (runs := searches[user].select())}:
            for user, values in decoder(batch).items():
                searches[user].update(batch[user], values)
        return [search.prediction() for search in searches]
