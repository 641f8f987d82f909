"""The arguments of the label map kernel for which Triton compiles no variants; without Triton."""

import ast
import inspect
from pathlib import Path

import pytest

from models import label_map

SOURCE = Path(inspect.getfile(label_map)).with_name("label_map_triton.py")
LISTS = ("SIZES", "UNALIGNED")


@pytest.fixture(scope="module")
def tree() -> ast.Module:
    """The module of the kernel; without Triton it cannot be imported."""
    return ast.parse(SOURCE.read_text())


@pytest.fixture(scope="module")
def kernel(tree) -> ast.FunctionDef:
    """The kernel."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return functions["paint"]


def test_no_size_of_an_image_or_a_network_has_a_kernel_of_its_own(tree, kernel):
    lists = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in LISTS
    }
    arguments = {
        each.arg for each in kernel.args.args if ast.unparse(each.annotation) == "tl.tensor"
    }
    floats, aligned = {"down", "across"}, {"labels"}  # `labels` is memory of its own
    assert set().union(*lists.values()) == arguments - floats - aligned


def test_the_kernel_is_compiled_with_these_lists(kernel):
    (decorator,) = kernel.decorator_list
    options = {option.arg: ast.unparse(option.value) for option in decorator.keywords}
    names = ("do_not_specialize", "do_not_specialize_on_alignment")
    assert options == dict(zip(names, LISTS, strict=True))
