"""What an image of this service installs beside one of MLflow: the packages of each, unpacked, in bytes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.measuring import clone, progress, run, table, uv, verdict

GOAL = 0.5
PREPARE = Path(__file__).with_name("serving_peers") / "prepare.py"
LARGEST = 6
# as `make image` does
PACKAGES = """
import sys
from pathlib import Path
from mlops.inference import contract
from mlops.release import dependencies
dependencies.install(dependencies.export(Path(sys.argv[1]), contract.read()), Path(sys.argv[2]), "linux/amd64")
"""


def measure() -> str:
    with clone() as folder, tempfile.TemporaryDirectory(prefix="bench-") as place:
        scratch = Path(place)
        progress("dependencies: running the pipeline")
        params = folder / "params.yaml"
        text = params.read_text(encoding="utf-8")
        # MLflow's image would need the team's features as code of its own
        params.write_text(text.replace("\ndata:\n", "\ndata:\n  features: []\n", 1), encoding="utf-8")
        run("dvc", "repro", folder=folder)
        run("python", str(PREPARE), str(scratch), "1", folder=folder)
        packages = scratch / "ours"
        run("python", "-c", PACKAGES, str(scratch / "serving.txt"), str(packages), folder=folder)
        found = {
            "the image of this service": sizes_of(packages),
            "what `mlflow models build-docker` installs": install(
                scratch / "mlflow/requirements.txt", scratch / "theirs", folder
            ),
        }
    (_, small), (_, large) = found.items()
    ratio = sum(small.values()) / sum(large.values())
    return "\n\n".join(
        [
            f"The packages of this service take **{ratio:.0%}** of the space of those in MLflow's image for the same "
            "model "
            f"(goal: at most {GOAL:.0%}: {verdict(ratio <= GOAL)}). Only packages are counted, without "
            "compiled modules; Python and the system are the same.",
            table(
                ["", "MiB", "largest packages, MiB"],
                [[name, f"{sum(sizes.values()) / 2**20:,.0f}", largest(sizes)] for name, sizes in found.items()],
            ),
        ]
    )


def install(requirements: Path, target: Path, folder: Path) -> dict[str, int]:
    """Unpack what a file of requirements asks for, and say how many bytes each package takes."""
    progress(f"dependencies: installing {requirements.name}")
    run(
        *(uv(), "pip", "install", "--quiet", "--python", sys.executable),
        *("--target", str(target), "--requirements", str(requirements)),
        folder=folder,
    )
    return sizes_of(target)


def sizes_of(folder: Path) -> dict[str, int]:
    return {
        path.name: sum(each.stat().st_size for each in ([path, *path.rglob("*")]) if each.is_file())
        for path in folder.iterdir()
    }


def largest(sizes: dict[str, int]) -> str:
    first = sorted(sizes, key=lambda name: -sizes[name])[:LARGEST]
    return ", ".join(f"{name} {sizes[name] / 2**20:,.0f}" for name in first)
