"""The token trie of a schema: which tokens may follow a prefix of a profile's text.

A profile's line is cut behind every separator, `Stars: 4 |` `Favorite Category: Pizza,` `Coffee & Tea |` ..., one
piece a value. The pieces of one place are a trie of token ids, and a profile is a walk through one trie after the
other, so that the trie of a schema with many profiles stays small. This holds where the tokenizer gives a line's
pieces the same ids as the line; where it does not, the lines themselves are the trie.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations, product
from math import comb, prod
from typing import NamedTuple

import numpy as np

from .configuration_mmprofile import (
    ATTRIBUTE_SEPARATOR,
    NAME_SEPARATOR,
    VALUE_SEPARATOR,
    Profile,
    ProfileAttribute,
    ProfileSchema,
)

MAX_LINES = 20_000  # so many profiles may be enumerated where the tokenizer cannot be cut
MAX_PAIRS = 2_000  # so many pairs of neighbours are compared with the line's ids; of more, a sample


@dataclass(eq=False)
class Node:
    """A place between two tokens of one piece.

    Args:
        edges: in schema order.
        values: ascending indices of all that it leads to.
        owners: of each of these values its edge's place among the edges.
    """

    edges: list["Edge"] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Edge:
    """A token, the values (ascending indices) that it leads to, and the node behind it, None where it ends a value."""

    token: int
    values: list[int]
    node: Node | None


class Location(NamedTuple):
    """A prefix as far as its continuations depend on it: its slot, the node, and the smallest value left to take."""

    slot: int
    node: Node
    low: int


class Branch(NamedTuple):
    """A token that may follow and all that must follow it, up to the next place with a choice.

    Args:
        edge: of the first token; the same object wherever the trie is the same.
        tokens: at least one, except that of `ProfileTrie.start` may be none.
        choices: indices of the values (of the schema's slots in order) that these tokens end.
        target: the next place with a choice; None where the profile is complete (the last token is `</s>`).
    """

    edge: Edge | None
    tokens: tuple[int, ...]
    choices: tuple[int, ...]
    target: Location | None


@dataclass(frozen=True)
class Slot:
    """A place for one value in the line.

    Args:
        root: of the trie of its pieces.
        high: the largest value that leaves enough for the slots behind it.
        ordered: whether the value must stand behind that of the slot before, in schema order.
    """

    root: Node
    high: int
    ordered: bool


class ProfileTrie:
    """All profiles of a schema as token ids, `tokenizer(schema.render(profile)).input_ids`, to walk along.

    The line ends with the tokenizer's `</s>`; it is added where the tokenizer does not.

    Args:
        schema: any.
        tokenizer: any that has an `eos_token`.

    Raises:
        ValueError: if the tokenizer has no `eos_token`, or its ids of a line are not those of the line's pieces and
            the schema has too many profiles to enumerate.
    """

    def __init__(self, schema: ProfileSchema, tokenizer):
        if tokenizer.eos_token_id is None:
            raise ValueError(f"a profile ends with the tokenizer's eos_token, {type(tokenizer).__name__} has none")
        self.schema = schema
        self.size = prod(comb(len(a.values), a.count) for a in schema.attributes)  # how many profiles there are
        self._lines: np.ndarray | None = None  # (lines, places), where the slot is the line
        pieces = _ids_of_pieces(schema, tokenizer)
        if pieces is None:
            self._lines, pieces = self._enumerate(tokenizer)
        self._slots = self._build(pieces)
        self._branches: dict[Location, tuple[Branch, ...]] = {}
        self.longest = sum(max(map(len, ids.values())) for ids in pieces)  # tokens of a profile, at most
        self.num_slots = len(self._slots)
        self.largest_token = max(token for ids in pieces for tokens in ids.values() for token in tokens)
        self.start = self._start()

    def _enumerate(self, tokenizer) -> tuple[np.ndarray, list[dict[int, list[int]]]]:
        if self.size > MAX_LINES:
            raise ValueError(
                f"{type(tokenizer).__name__} joins words of a profile across blanks; such a tokenizer takes schemas of"
                f" at most {MAX_LINES} profiles, this one has {self.size}"
            )
        chosen = product(*(combinations(range(len(a.values)), a.count) for a in self.schema.attributes))
        values = np.array([list(chain(*each)) for each in chosen])
        lines = _line_ids(tokenizer, [self.schema.render(self.profile(row)) for row in values.tolist()])
        return values, [dict(enumerate(lines))]

    def _build(self, pieces: list[dict[int, list[int]]]) -> list[Slot]:
        if self._lines is not None:
            return [Slot(_trie(pieces[0]), len(self._lines) - 1, False)]
        places = [(attribute, place) for attribute in self.schema.attributes for place in range(attribute.count)]
        return [
            Slot(_trie(ids), len(attribute.values) - attribute.count + place, place > 0)
            for (attribute, place), ids in zip(places, pieces, strict=True)
        ]

    def _start(self) -> Branch:
        location = Location(0, self._slots[0].root, 0)
        edge = self._only_edge(location)
        return Branch(None, (), (), location) if edge is None else self._branch(location, edge)

    def branches(self, location: Location) -> tuple[Branch, ...]:
        """What may follow, in schema order; more than one."""
        if location not in self._branches:
            self._branches[location] = tuple(self._branch(location, edge) for edge in self._edges(location))
        return self._branches[location]

    def values(self, choices: np.ndarray) -> np.ndarray:
        """The choices of walks, (walks, slots), as indices of the attributes' values, (walks, places): an attribute
        has as many places as it has values in a profile. Both are -1 where a walk has not come to a value."""
        return choices if self._lines is None else np.where(choices < 0, -1, self._lines[choices[:, 0]])

    def profile(self, values: Sequence[int]) -> Profile:
        """The profile of a row of `values`."""
        profile, left = {}, iter(values)
        for attribute in self.schema.attributes:
            named = [attribute.values[next(left)] for _ in range(attribute.count)]
            profile[attribute.key] = named[0] if attribute.count == 1 else named
        return profile

    def _edges(self, location: Location) -> list[Edge]:
        """Those that lead to a value that may be taken there."""
        node = location.node
        return [node.edges[place] for place in sorted(set(node.owners[self._span(node.values, location)]))]

    def _only_edge(self, location: Location) -> Edge | None:
        """Of `_edges`; None where there are several. Unlike these it goes over no values: it is asked of every place
        that a branch may lead to."""
        node = location.node
        span = self._span(node.values, location)
        edge = node.edges[node.owners[span.start]]
        its = self._span(edge.values, location)
        return edge if its.stop - its.start == span.stop - span.start else None

    def _span(self, values: list[int], location: Location) -> slice:
        """Of ascending values those that may be taken there."""
        return slice(bisect_left(values, location.low), bisect_right(values, self._slots[location.slot].high))

    def _branch(self, location: Location, first: Edge) -> Branch:
        tokens, choices, edge = [first.token], [], first
        while True:
            if edge.node is not None:
                location = location._replace(node=edge.node)
            else:
                choices.append(edge.values[0])
                if location.slot + 1 == len(self._slots):
                    return Branch(first, tuple(tokens), tuple(choices), None)
                slot = self._slots[location.slot + 1]
                location = Location(location.slot + 1, slot.root, choices[-1] + 1 if slot.ordered else 0)
            edge = self._only_edge(location)
            if edge is None:
                return Branch(first, tuple(tokens), tuple(choices), location)
            tokens.append(edge.token)


def profile_trie(schema: ProfileSchema, tokenizer) -> ProfileTrie:
    """`ProfileTrie`, built once for what the tokenizer makes of the schema: a token that is added to it, or another
    normaliser, changes that."""
    return _trie_of(schema, tokenizer, _spelling(schema, tokenizer))


@lru_cache(maxsize=8)
def _trie_of(schema: ProfileSchema, tokenizer, spelling: tuple) -> ProfileTrie:
    return ProfileTrie(schema, tokenizer)


def _spelling(schema: ProfileSchema, tokenizer) -> tuple:
    """What a trie depends on, far sooner read than built: the ids of lines that hold every value, and the tokens that
    were added, of which one may join what these lines do not put side by side."""
    ids = tokenizer(_lines_of_all_values(schema), return_attention_mask=False).input_ids
    added = tuple(f"{number} {token!r}" for number, token in tokenizer.added_tokens_decoder.items())
    return tokenizer.eos_token_id, added, tuple(map(tuple, ids))


@lru_cache(maxsize=8)
def _lines_of_all_values(schema: ProfileSchema) -> list[str]:
    lines = []
    for first in range(max(len(attribute.values) for attribute in schema.attributes)):
        profile: Profile = {}
        for attribute in schema.attributes:
            values = [attribute.values[(first + i) % len(attribute.values)] for i in range(attribute.count)]
            profile[attribute.key] = values if attribute.count > 1 else values[0]
        lines.append(schema.render(profile))
    return lines


def _trie(ids: dict[int, list[int]]) -> Node:
    """The trie of value -> ids. Values with the same ids, or whose ids begin another's, keep a last edge of their own:
    every value has exactly one walk, whatever the tokenizer makes of it."""
    root = Node()
    inner: dict[tuple[Node, int], tuple[int, Node]] = {}  # the place of the edge of a token, and the node behind it
    for value, tokens in ids.items():
        node = root
        for token in tokens[:-1]:
            if (node, token) not in inner:
                inner[node, token] = len(node.edges), Node()
                node.edges.append(Edge(token, [], inner[node, token][1]))
            place, behind = inner[node, token]
            _lead(node, place, value)
            node = behind
        node.edges.append(Edge(tokens[-1], [], None))
        _lead(node, len(node.edges) - 1, value)
    return root


def _lead(node: Node, place: int, value: int) -> None:
    """Has the edge at this place lead to the value, larger than those before."""
    node.edges[place].values.append(value)
    node.values.append(value)
    node.owners.append(place)


def _line_ids(tokenizer, lines: list[str]) -> list[list[int]]:
    """A label's ids: the whole line's, with `</s>` at the end."""
    end = tokenizer.eos_token_id
    return [list(ids) if ids and ids[-1] == end else [*ids, end] for ids in tokenizer(lines).input_ids]


def _piece(attribute: ProfileAttribute, place: int, value: str, last: bool) -> str:
    head = attribute.name + NAME_SEPARATOR if place == 0 else ""
    tail = VALUE_SEPARATOR if place + 1 < attribute.count else "" if last else ATTRIBUTE_SEPARATOR
    return head + value + tail.rstrip()


def _ids_of_pieces(schema: ProfileSchema, tokenizer) -> list[dict[int, list[int]]] | None:
    """For each slot value -> ids, special tokens in the first and last slot; None if the line's ids are others."""
    slots: list[dict[int, str]] = []
    for attribute in schema.attributes:
        for place in range(attribute.count):
            last = attribute is schema.attributes[-1]
            reachable = range(place, len(attribute.values) - attribute.count + place + 1)
            slots.append({v: _piece(attribute, place, attribute.values[v], last) for v in reachable})
    # Every piece's ids are read behind the first pieces of the slots before it, with which the line begins.
    heads = [" ".join(next(iter(slot.values())) for slot in slots[:at]) for at in range(len(slots))]
    head_ids = [[]] + tokenizer(heads[1:], add_special_tokens=False).input_ids if len(heads) > 1 else [[]]
    ids: list[dict[int, list[int]]] = []
    for slot, head, before in zip(slots, heads, head_ids, strict=True):
        texts = tokenizer([f"{head} {text}".strip() for text in slot.values()], add_special_tokens=False).input_ids
        if any(text[: len(before)] != before or len(text) == len(before) for text in texts):
            return None
        ids.append({value: list(text[len(before) :]) for value, text in zip(slot, texts, strict=True)})
    if not _neighbours_agree(slots, heads, head_ids, ids, tokenizer):
        return None
    return _with_special_tokens(schema, ids, tokenizer)


def _neighbours_agree(slots, heads, head_ids, ids, tokenizer) -> bool:
    """Whether every two pieces that can stand side by side have their own ids in a line's beginning."""
    draw = random.Random(0)
    for at in range(1, len(slots)):
        lefts, rights = list(slots[at - 1]), list(slots[at])
        if len(lefts) * len(rights) <= MAX_PAIRS:
            pairs = list(product(lefts, rights))
        else:
            pairs = [(u, rights[0]) for u in lefts] + [(lefts[0], v) for v in rights]
            pairs += [(draw.choice(lefts), draw.choice(rights)) for _ in range(MAX_PAIRS)]
        texts = [f"{heads[at - 1]} {slots[at - 1][u]} {slots[at][v]}".strip() for u, v in pairs]
        for (u, v), found in zip(pairs, tokenizer(texts, add_special_tokens=False).input_ids, strict=True):
            if list(found) != [*head_ids[at - 1], *ids[at - 1][u], *ids[at][v]]:
                return False
    return True


def _with_special_tokens(schema: ProfileSchema, ids, tokenizer) -> list[dict[int, list[int]]] | None:
    """The ids with what the tokenizer puts around a line; None if a sample of whole lines has other ids."""
    draw = random.Random(0)
    sample = [[draw.sample(range(len(a.values)), a.count) for a in schema.attributes] for _ in range(64)]
    choices = [[value for values in line for value in sorted(values)] for line in sample]
    profiles = [
        {a.key: [a.values[v] for v in values] for a, values in zip(schema.attributes, line, strict=True)}
        for line in sample
    ]
    lines = _line_ids(tokenizer, [schema.render(profile) for profile in profiles])
    bare = [[token for slot, v in zip(ids, line, strict=True) for token in slot[v]] for line in choices]
    around = []
    for line, inner in zip(lines, bare, strict=True):
        starts = [at for at in range(len(line) - len(inner)) if line[at : at + len(inner)] == inner]
        if not starts:
            return None
        around.append((line[: starts[0]], line[starts[0] + len(inner) :]))
    if any(found != around[0] for found in around):
        return None
    before, behind = around[0]
    ids[0] = {value: [*before, *tokens] for value, tokens in ids[0].items()}
    ids[-1] = {value: [*tokens, *behind] for value, tokens in ids[-1].items()}
    return ids
