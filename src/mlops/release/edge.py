"""`make edge`: the portable model as a folder for any web server, whose page predicts in the browser, without Python.

The page loads only files of its own folder and sends nothing. `deploy/edge/predict.c` runs the same folder in C.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from mlops.core import paths
from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import write_json
from mlops.release.history import PAGE
from mlops.release.identity import identify
from mlops.release.wheel import NotPortableError, checked

FOLDER = Path("build/edge")
SITE = PAGE.parent / "model"
SOURCE = Path(__file__).parent
FILES = {"edge.html": "index.html", "edge.css": "page.css", "edge_page.js": "page.js", "edge_model.js": "model.js"}
RUNTIME = Path("build/onnxruntime-web/node_modules/onnxruntime-web")
NEEDED = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def make(folder: Path = FOLDER) -> int:
    """Write the bundle, and return its size in bytes.

    Raises
    ------
    UserError
        If the model has no portable form, is not the one in `dvc.lock`, or the runtime is not installed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    release = identify()
    checked()
    absent = next((name for name in NEEDED if not (RUNTIME / "dist" / name).is_file()), None)
    if absent:
        raise UserError(f"{RUNTIME / 'dist' / absent} is missing", "make edge")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    copies = {SOURCE / name: to for name, to in FILES.items()}
    copies |= {file: file.name for file in paths.PORTABLE.iterdir()}
    copies |= {RUNTIME / "dist" / name: name for name in NEEDED}
    for file, to in copies.items():
        shutil.copyfile(file, partial / to)
    write_json(release.model_dump(exclude={"log"}), partial / "release.json")
    partial.rename(folder)
    return sum(file.stat().st_size for file in folder.iterdir())


def site() -> None:
    """For GitHub Pages: beside the page of the history, which links to it; a model without a portable form has none."""
    try:
        make(SITE)
    except NotPortableError as error:
        print(f"no page: {error}")
        return
    print(f"the page of the model → {SITE}")


def main() -> None:
    if sys.argv[1:] == ["site"]:
        site()
        return
    size = make()
    print(
        f"{size / 1e6:.1f} MB, of which {(FOLDER / 'model.onnx').stat().st_size / 1e3:.0f} KB are the model → {FOLDER}"
    )
    print(f"  python3 -m http.server --bind 127.0.0.1 --directory {FOLDER}")


if __name__ == "__main__":
    with errors_in_words():
        main()
