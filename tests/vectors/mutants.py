"""Takes the checks of our verifier away, one at a time, while the program runs.

A check is found in the source: an `if` that raises, or says why not; one part of its condition; a call for nothing but
the errors it raises; one part of a predicate. The function that holds it gets other code for as long as a block lasts,
so that every module that has imported it is altered too.
"""

import ast
import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType, ModuleType

KEPT = (
    "append",
    "update",
    "clear",
    "forget",
    "pop",
    "_forget_first_of",
    "self._count",
)  # methods that are called for what they do


@dataclass(frozen=True)
class Mutant:
    """A module's source with one check taken away. where: the function, by its qualified name"""

    module: str
    where: str
    what: str
    code: CodeType

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"

    @contextmanager
    def alive(self) -> Iterator[None]:
        """The program without the check, for as long as the block lasts."""
        module = importlib.import_module(self.module)
        function = _function(module, self.where)
        before = function.__code__
        _forget(module)
        function.__code__ = self.code
        try:
            yield
        finally:
            function.__code__ = before
            _forget(module)


def mutants_of(module: str) -> Iterator[Mutant]:
    """Every check of a module, taken away."""
    source = inspect.getsource(importlib.import_module(module))
    tree = ast.parse(source)
    for where, node in _functions(tree):
        for what, place, instead in _checks(node):
            code = _compiled(tree, place, instead)
            yield Mutant(module, where, what, _code_of(code, where))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node


Check = tuple[str, ast.AST, ast.AST]  # in words, what stands there, and what stands there instead


def _checks(function: ast.FunctionDef) -> Iterator[Check]:
    for node in ast.walk(function):
        match node:
            case ast.If(test=test, body=[body]) if isinstance(body, ast.Raise) or _says_why(function, body):
                yield f"if {ast.unparse(test)}", test, ast.Constant(False)
                yield from _parts(test, ast.Or)
            case ast.Expr(value=ast.Call(func=called)) if not ast.unparse(called).endswith(KEPT):
                yield ast.unparse(node), node, ast.Pass()
            case ast.match_case(guard=ast.expr() as guard):
                yield f"case ... if {ast.unparse(guard)}", guard, ast.Constant(True)
            case ast.Return(value=ast.expr() as value) if _is_predicate(function, value):
                yield f"return {ast.unparse(value)}", value, ast.Constant(True)
                yield from _parts(value, ast.And)


def _says_why(function: ast.FunctionDef, body: ast.stmt) -> bool:
    """It returns what is wrong, from a function that returns that or None."""
    match body:
        case ast.Return(value=ast.Constant(value=None)):
            return False
        case ast.Return(value=ast.expr()):
            return _gives(function, "str | None")
    return False


def _is_predicate(function: ast.FunctionDef, value: ast.expr) -> bool:
    return _gives(function, "bool") and not isinstance(value, ast.Constant)


def _gives(function: ast.FunctionDef, what: str) -> bool:
    return function.returns is not None and ast.unparse(function.returns) == what


def _parts(test: ast.expr, joint: type[ast.boolop]) -> Iterator[Check]:
    """The condition without one of its parts; a chain of comparisons has parts too."""
    for node in ast.walk(test):
        match node:
            case ast.BoolOp(op=op, values=values) if isinstance(op, joint):
                for place, value in enumerate(values):
                    rest = [*values[:place], *values[place + 1 :]]
                    less = ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
                    yield f"{ast.unparse(node)}, without {ast.unparse(value)}", node, less
            case ast.Compare(left=left, ops=[a, b], comparators=[middle, right]):
                text = ast.unparse(node)
                yield f"{text}, without its end", node, ast.Compare(left, [a], [middle])
                yield f"{text}, without its beginning", node, ast.Compare(middle, [b], [right])


def _compiled(tree: ast.Module, place: ast.AST, instead: ast.AST) -> CodeType:
    """The module with one node replaced; names of functions stay where they were."""
    memo: dict[int, object] = {}
    copy = deepcopy(tree, memo)
    target = memo[id(place)]

    class Swap(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            if node is target:
                return ast.copy_location(deepcopy(instead), node)
            return super().visit(node)  # type: ignore[no-any-return]

    return compile(ast.fix_missing_locations(Swap().visit(copy)), "<mutant>", "exec", dont_inherit=True)


def _code_of(code: CodeType, where: str) -> CodeType:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == where:
                return constant
            if where.startswith(f"{constant.co_qualname}."):
                return _code_of(constant, where)
    raise LookupError(where)


def _forget(module: ModuleType) -> None:
    """Answers that a function has kept would hide what it would say now."""
    for value in vars(module).values():
        if callable(getattr(value, "cache_clear", None)):
            value.cache_clear()


@cache
def _function(module: ModuleType, where: str) -> FunctionType:
    """The function itself, under whatever a class or a decorator makes of it."""
    found: object = module
    for name in where.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    found = inspect.unwrap(found)  # type: ignore[arg-type]
    assert isinstance(found, FunctionType)
    return found
