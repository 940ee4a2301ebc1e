"""Imports point one way: who may import whom, counted in the source itself, imports inside functions too."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
OURS = ("v2vweb", "conversions")


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for folder in OURS
    for path in sorted((PROJECT / folder).rglob("*.py"))
    if "migrations" not in path.parts
}


def imports(name: str, *, of_functions: bool = True) -> Iterator[str]:
    """Yields the modules that a module imports, absolute; "a.b" for `from a import b` when a.b is a module of ours."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes(ast.parse(path.read_text()), of_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


def nodes(tree: ast.AST, of_functions: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not of_functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield from nodes(node, of_functions)


def reached_from(name: str, *, of_functions: bool = True) -> set[str]:
    """Everything of ours that is loaded with a module, at whatever distance."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for other in imports(todo.pop(), of_functions=of_functions):
            if other in MODULES and other not in found:
                found.add(other)
                todo.append(other)
    return found


def matching(*prefixes: str) -> list[str]:
    """Modules that are one of these or lie below one."""
    return [name for name in MODULES if any(name == p or name.startswith(f"{p}.") for p in prefixes)]


def test_the_graph_sees_imports_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "conversions" / "agent"
    package.mkdir(parents=True)
    (package / "x.py").write_text(
        "import json\nfrom . import y\nfrom ..plan import Plan\nfrom conversions import states\ndef f():\n    import django.db\n"
    )
    found = {"conversions.agent.x": package / "x.py"}
    found |= dict.fromkeys(("conversions.agent.y", "conversions.plan", "conversions.states"), package / "x.py")
    monkeypatch.setitem(globals(), "MODULES", found)
    expected = {"json", "conversions.agent.y", "conversions.plan", "conversions.states"}
    assert set(imports("conversions.agent.x")) == expected | {"django.db"}
    assert set(imports("conversions.agent.x", of_functions=False)) == expected


def test_no_two_modules_import_each_other() -> None:
    graph = {name: {m for m in imports(name, of_functions=False) if m in MODULES and m != name} for name in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", ["plan", "states", "problems"])
def test_the_foundations_import_nothing_of_ours(name: str) -> None:
    assert not reached_from(f"conversions.{name}")


@pytest.mark.parametrize("name", ["jobdir", "events"])
def test_the_job_folder_and_events_stand_on_the_foundations_alone(name: str) -> None:
    assert reached_from(f"conversions.{name}") <= {"conversions.problems", "conversions.states"}


def test_models_know_no_sources_and_no_outputs() -> None:
    assert reached_from("conversions.models") - set(matching("conversions.models")) <= {
        f"conversions.{name}" for name in ("plan", "states", "jobdir", "credentials", "problems")
    }


def test_the_agent_needs_the_standard_library_alone() -> None:
    """It runs in a container without Django or pydantic; what it uses of ours runs there too."""
    import sys

    for name in matching("conversions.agent"):
        for module in {name, *reached_from(name)}:
            foreign = {other.partition(".")[0] for other in imports(module)} - set(sys.stdlib_module_names) - set(OURS)
            assert not foreign, f"{name} loads {module}, which imports {sorted(foreign)}"


#: group -> what it must not import itself
FORBIDDEN = {
    "conversions.views": ("conversions.runners", "conversions.agent", "conversions.conductor", "conversions.scheduler"),
    "conversions.runners": ("conversions.views", "conversions.forms", "conversions.consumers"),
    "conversions.agent": ("conversions.views", "conversions.forms", "conversions.consumers", "conversions.runners"),
    "conversions.sources": ("conversions.views", "conversions.outputs", "conversions.runners"),
    "conversions.outputs": ("conversions.views", "conversions.sources", "conversions.runners", "conversions.models"),
    "conversions.consumers": ("conversions.views", "conversions.runners", "conversions.agent"),
    "conversions.planning": ("conversions.views", "conversions.runners", "conversions.agent"),
    "v2vweb.serve": OURS[1:],
    "v2vweb.environment": OURS[1:],
}


@pytest.mark.parametrize("group", FORBIDDEN)
def test_imports_point_one_way(group: str) -> None:
    assert matching(group), f"{group} is gone: take it out of the table"
    upward = matching(*FORBIDDEN[group])
    found = [f"{name} imports {other}" for name in matching(group) for other in imports(name) if other in upward]
    assert not found
