"""Executes notebooks from top to bottom and fails on any error: execute.py [--write] NOTEBOOK...

With --write the outputs are kept in the file; otherwise the file stays as it is.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TIMEOUT_SECONDS = 300


def execute(path: Path, write: bool) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=TIMEOUT_SECONDS, record_timing=False, resources={"metadata": {"path": path.parent}})
    client.execute()
    print(f"{path}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells without an error")
    if write:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            for output in cell.get("outputs", []):
                output.get("data", {}).pop("text/html", None)  # the same table as text is a tenth of it
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, path)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    for name in [a for a in arguments if a != "--write"]:
        execute(Path(name), write="--write" in arguments)
