"""The kinds of output, by name.  A new kind is one module here and one line below."""

from importlib import import_module

from .base import Output

OUTPUTS = {
    "files": "conversions.outputs.files.FilesOutput",
}


def get_output(kind: str) -> Output:
    """The output of a kind; KeyError for an unknown one."""
    module, _, name = OUTPUTS[kind].rpartition(".")
    output: Output = getattr(import_module(module), name)()
    return output
