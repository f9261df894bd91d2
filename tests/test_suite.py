"""Checks of the tests themselves: that none can pass without asserting."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.rglob("*.py"))
NEVER_EMPTY = {"attributes", "values"}  # of a schema, of an attribute


def vacuous_asserts(code: str) -> list[str]:
    """`function, line` of loops, and of `assert all(...)` and `assert not any(...)`, that assert nothing where there
    is nothing to go over; and of tests whose asserts all stand under an `if` or `while`.

    There is something in what is written out, in a constant in capitals, a parameter of the test and what is made of
    these. Of anything else another assert has to tell, as `assert rows` before `for row in rows`: one that has a name
    of what is gone over, or of what the loop fills. What a call makes gets a name first.
    """
    found = []
    for function in _inside(ast.parse(code), ast.FunctionDef):
        sure = _sure_names(function)
        for node, iterable in _repeated_asserts(function):
            told = (_names_gone_over(iterable) | _names_filled(node)) & _names_asserted_beside(function, node)
            if not told and not _holds_something(iterable, sure):
                found.append(f"{function.name}, line {iterable.lineno}")
        is_test = function.name.startswith("test") and any(map(_asserts, ast.walk(function)))
        if is_test and not _asserts_in_any_case(function.body):
            found.append(f"{function.name}, line {function.lineno}")
    return found


def _repeated_asserts(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.expr]]:
    """Each loop that asserts, and each `all` and no `any` that is asserted, with what it goes over."""
    for loop in _inside(function, ast.For):
        if any(_asserts(node) for node in ast.walk(loop)):
            yield loop, loop.iter
    for statement in _inside(function, ast.Assert):
        for part in statement.test.values if isinstance(statement.test, ast.BoolOp) else [statement.test]:
            match part:
                case ast.Call(func=ast.Name(id="all"), args=[each]):
                    yield part, each
                case ast.UnaryOp(op=ast.Not(), operand=ast.Call(func=ast.Name(id="any"), args=[each])):
                    yield part, each


def _asserts_in_any_case(statements: list[ast.stmt]) -> bool:
    """Whether one of them asserts whatever holds; loops have something to go over."""
    for statement in statements:
        match statement:
            case ast.If(body=body, orelse=other):
                found = _asserts_in_any_case(body) and _asserts_in_any_case(other)
            case ast.While(test=test, body=body):
                found = isinstance(test, ast.Constant) and _asserts_in_any_case(body)
            case ast.For(body=body) | ast.Try(body=body):
                found = _asserts_in_any_case(body)
            case ast.With(items=items, body=body):
                found = any(_asserts(item.context_expr) for item in items) or _asserts_in_any_case(body)
            case _:
                found = any(map(_asserts, ast.walk(statement)))
        if found:
            return True
    return False


def _asserts(node: ast.AST) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name == "raises" or name.startswith("assert_")
    return False


def _names_asserted_beside(function: ast.FunctionDef, node: ast.AST) -> set[str]:
    """Names in the function's asserts, without those in this node."""
    within = {id(inner) for inner in ast.walk(node)}
    asserted = [inner for statement in _inside(function, ast.Assert) for inner in ast.walk(statement)]
    return {inner.id for inner in asserted if isinstance(inner, ast.Name) and id(inner) not in within}


def _sure_names(function: ast.FunctionDef) -> set[str]:
    """Of the parameters that decorators give, and of what the function writes out."""
    names = set()
    for call in function.decorator_list:
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("parametrize"):
            given = ast.literal_eval(call.args[0])
            names |= set(given.replace(",", " ").split() if isinstance(given, str) else given)
    for node in _inside(function, ast.Assign):
        if _holds_something(node.value, names):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _holds_something(iterable: ast.expr, sure: set[str]) -> bool:
    def holds(node: ast.expr) -> bool:
        return _holds_something(node, sure)

    match iterable:
        case ast.Name(id=name):
            return name in sure or name.isupper()
        case ast.Attribute(attr=name):
            return name in NEVER_EMPTY or name.isupper()
        case ast.Constant(value=value):
            return bool(value)
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return any(not isinstance(item, ast.Starred) or holds(item.value) for item in items)
        case ast.Dict(keys=keys):
            return bool(keys)
        case ast.Call(func=ast.Attribute(attr="parameters" | "named_parameters" | "state_dict")):
            return True
        case ast.Subscript(value=value) | ast.Call(func=ast.Attribute(value=value, attr="items" | "keys" | "values")):
            return holds(value)
        case ast.BinOp(left=left, right=right):
            return holds(left) or holds(right)
        case ast.ListComp(generators=parts) | ast.GeneratorExp(generators=parts) | ast.DictComp(generators=parts):
            return all(holds(part.iter) and not part.ifs for part in parts)
        case ast.Call(func=ast.Name(id="range"), args=[*_, last]):
            return holds(last)
        case ast.Call(func=ast.Name(id="map"), args=[_, *parts]):
            return all(map(holds, parts))
        case ast.Call(func=ast.Name(id="zip"), args=arguments, keywords=[ast.keyword(arg="strict")]):
            return any(map(holds, arguments))
        case ast.Call(
            func=ast.Name(id="enumerate" | "list" | "product" | "reversed" | "set" | "sorted" | "tuple" | "zip")
        ):
            return all(map(holds, iterable.args))
    return False


def _inside(node: ast.AST, kind: type) -> list:
    return [inner for inner in ast.walk(node) if isinstance(inner, kind)]


def _names_gone_over(iterable: ast.expr) -> set[str]:
    """Of what is gone over itself, and not of what a call that makes it is given."""
    match iterable:
        case ast.Name(id=name):
            return {name}
        case ast.Attribute(value=part) | ast.Subscript(value=part) | ast.Starred(value=part):
            return _names_gone_over(part)
        case ast.Call(func=ast.Attribute(value=part, attr="items" | "keys" | "values")):
            return _names_gone_over(part)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return set().union(*map(_names_gone_over, parts))
        case ast.Call(func=ast.Name(id="map"), args=[_, *parts]):
            return set().union(*map(_names_gone_over, parts))
        case ast.Call(func=ast.Attribute(attr="combinations" | "pairwise"), args=[part, *_]):
            return _names_gone_over(part)
        case ast.Call(func=ast.Name(id=name), args=parts) if name in dir(builtins):
            return set().union(*map(_names_gone_over, parts))
        case ast.ListComp(generators=parts) | ast.GeneratorExp(generators=parts):
            return set().union(*(_names_gone_over(part.iter) for part in parts))
    return set()


def _names_filled(loop: ast.AST) -> set[str]:
    """What a loop counts or collects in: `counts[name] = 3`, `found.append(row)`, `number += 1`."""
    filled = set()
    for node in ast.walk(loop):
        match node:
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                filled.add(name)
            case ast.AugAssign(target=ast.Name(id=name)):
                filled.add(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append" | "add")):
                filled.add(name)
    return filled


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_assert_depends_on_there_being_something_to_go_over(path):
    """Where this fails, assert before the loop what it goes over: `assert rows`, or better how many."""
    assert vacuous_asserts(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["for row in rows():", "    assert row"], ["test, line 3"]),
        (["rows = read()", "for row in rows:", "    if row:", "        assert row"], ["test, line 4", "test, line 2"]),
        (["for one, other in zip(found, read(), strict=True):", "    assert one == other"], ["test, line 3"]),
        (["for row in rows():", "    with pytest.raises(ValueError):", "        row()"], ["test, line 3"]),
        (["for row in rows():", "    assert_same(row, 3)"], ["test, line 3"]),
        (["for row in [row for row in ROWS if row.good]:", "    assert row"], ["test, line 3"]),
        (["for row in range(0):", "    assert row"], ["test, line 3"]),
        (["for row in ():", "    assert row"], ["test, line 3"]),
        (["assert all(row for row in rows())"], ["test, line 3"]),
        (["assert name and all(row for row in rows())"], ["test, line 3"]),
        (["assert all(map(len, rows()))"], ["test, line 3"]),
        (["assert len(row)", "assert all(map(row, rows))"], ["test, line 4"]),
        (["assert all([row for row in rows()])"], ["test, line 3"]),
        (["assert all(rows)"], ["test, line 3"]),
        (["assert not any(row.bad for row in rows())"], ["test, line 3"]),
        (["assert name and not any(map(bad, rows()))"], ["test, line 3"]),
        (["while row := read():", "    assert row"], ["test, line 2"]),
        (["while rows:", "    if rows.pop():", "        break", "    assert rows"], ["test, line 2"]),
        (["if read():", "    assert read()"], ["test, line 2"]),
        (["for row in ROWS:", "    if row:", "        assert row"], ["test, line 2"]),
        (["row = read()", "if row:", "    assert row", "elif other:", "    assert other"], ["test, line 2"]),
        (["if row:", "    with pytest.raises(ValueError):", "        row()"], ["test, line 2"]),
        (["with open(row):", "    if row:", "        assert row"], ["test, line 2"]),
        (["assert read", "for row in read(model):", "    assert row"], ["test, line 4"]),
        (["assert len(found)", "for row in range(len(rows)):", "    assert row"], ["test, line 4"]),
        (["assert rows", "for row in rows:", "    assert row"], []),
        (["for row in rows:", "    assert row", "assert len(rows) == 3"], []),
        (["assert rows", "for row in [*rows, *read()]:", "    assert row"], []),
        (["for row in rows():", "    assert row", "    found.append(row)", "assert len(found) == 3"], []),
        (["for row in rows():", "    assert row", "    found[row] = 3", "assert len(found) == 3"], []),
        (["for row in rows():", "    assert row", "    number += 1", "assert number == 3"], []),
        (["for row in rows():", "    found.append(row)", "    assert found"], ["test, line 3"]),
        (["assert rows and all(row for row in rows)"], []),
        (["assert all(map(len, rows))", "assert len(rows) == 3"], []),
        (["assert all(map(len, zip((1, 2), other)))"], []),
        (["assert all([row, other])"], []),
        (["assert any(row for row in rows())"], []),
        (["assert rows", "assert not any(row.bad for row in rows)"], []),
        (["while row := read():", "    assert row", "    number += 1", "assert number == 3"], []),
        (["assert rows", "assert not any(one > other for one, other in itertools.combinations(rows, 2))"], []),
        (["with pytest.raises(ValueError):", "    read()"], []),
        (["while True:", "    assert read()", "    break"], []),
        (["if row:", "    assert row", "else:", "    assert not row"], []),
        (["if row:", "    assert row", "assert other"], []),
        (["if row:", "    print(row)"], []),
        (["for row in rows():", "    print(row)"], []),
        (["for row in ROWS:", "    assert row"], []),
        (["for row, number in zip(read(), (1, 2), strict=True):", "    assert row == number"], []),
        (["for number, row in enumerate(sorted({2, 1})):", "    assert row > number"], []),
        (["forms = {'a': 1}", "for name, form in forms.items():", "    assert form"], []),
        (["assert all(row for row in parameter)"], []),
    ],
)
def test_what_may_assert_nothing_is_found_and_nothing_else(lines, found):
    code = '@pytest.mark.parametrize("parameter, other", [])\ndef test(parameter, other):\n'
    assert vacuous_asserts(code + "\n".join(f"    {line}" for line in lines)) == found


def test_no_file_imports_conftest_which_would_run_twice_and_move_the_caches():
    found = re.compile(r"^\s*(from|import)\s+(tests\.)?conftest", re.MULTILINE)
    assert FILES and not [path.name for path in FILES if found.search(path.read_text())]
