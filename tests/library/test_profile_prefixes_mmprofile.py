from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmprofile.profile_prefixes_mmprofile import BranchTable
from mmprofile.profile_trie_mmprofile import ProfileTrie
from tests.toy_schemas import SCHEMAS, unigram_tokenizer

START = 7
TOKENIZER = unigram_tokenizer()


def number_all(table: BranchTable) -> None:
    while (table.branches.first < 0).any():
        table.number((table.branches.first < 0).nonzero()[0].tolist())


def rows(table: BranchTable, place: int) -> slice:
    first, count = table.branches.first[place], table.branches.count[place]
    return slice(first, first + count)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_places_branches_are_the_tries_one_after_the_other(name):
    table = BranchTable(ProfileTrie(SCHEMAS[name], TOKENIZER), START)
    trie, found = table.trie, table.branches
    places = {0: trie.start.target}
    assert found.tokens.tolist() == [[START, *trie.start.tokens]] and found.target.tolist() == [0]
    number_all(table)
    found = table.branches
    for place in range(len(found.first)):
        location = places[place]
        for number, branch in zip(range(len(found.length))[rows(table, place)], trie.branches(location), strict=True):
            places[found.target[number]] = branch.target
            length = found.length[number]
            assert tuple(found.tokens[number, :length]) == branch.tokens and not found.tokens[number, length:].any()
            assert found.complete[number] == (branch.target is None) == (found.target[number] == -1)
            assert found.fed[number] == length - found.complete[number]
            assert found.slot[number] == location.slot
            choices = found.choices[number].tolist()
            assert choices[location.slot : location.slot + len(branch.choices)] == list(branch.choices)
            assert choices.count(-1) == trie.num_slots - len(branch.choices)
    edges = [found.edge[number] for number in range(1, len(found.edge))]
    assert set(edges) == set(range(found.num_edges)) - {found.edge[0]}


def test_only_what_is_looked_at_is_numbered_and_numbers_stay():
    table = BranchTable(ProfileTrie(SCHEMAS["several"], TOKENIZER), START)
    before = table.branches
    table.number([0])
    few = table.branches
    copies = [np.array(field) for field in few]
    assert before.first.tolist() == [-1] and len(before.length) == 1  # as it was
    assert len(few.length) == 1 + len(table.trie.branches(table.trie.start.target))
    table.number([0])
    assert table.branches is few
    number_all(table)
    assert len(table.branches.length) > len(few.length)
    assert table.branches.target[: len(few.target)].tolist() == few.target.tolist()
    assert table.branches.edge[: len(few.edge)].tolist() == few.edge.tolist()
    assert len(copies) == 11  # what was shown is as it was
    for field, copy in zip(few, copies, strict=True):
        assert np.array_equal(field, copy)


def test_threads_that_share_a_table_number_every_place_once():
    expected = BranchTable(ProfileTrie(SCHEMAS["several"], TOKENIZER), START)
    shared = BranchTable(expected.trie, START)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: number_all(shared), range(8)):
            pass
    number_all(expected)
    assert len(shared.branches.length) == len(expected.branches.length)
    assert (shared.branches.count > 0).all() and shared.branches.count.sum() == len(shared.branches.length) - 1
