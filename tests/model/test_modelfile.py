from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.inference import bounds
from mlops.model import modelfile

SETTINGS = Settings.model_validate(
    {
        "data": {"source": "data/raw/x.csv", "task": "classification", "target": "y"},
        "validate": {},
        "split": {},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }
)


def trusting(*names: str) -> Settings:
    model = SETTINGS.model.model_copy(update={"trusted": list(names)})
    return SETTINGS.model_copy(update={"model": model})


X, y = np.arange(20.0).reshape(-1, 1), np.repeat(["no", "yes"], 10)

TEXT_MODEL = """
import hashlib, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_modelfile import save_text_model
print(hashlib.md5(save_text_model(Path({path!r}))).hexdigest())
"""


def save_text_model(path: Path) -> bytes:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    modelfile.save(model.fit([f"word{number} and more" for number in range(20)], y), SETTINGS, path)
    return path.read_bytes()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "model.skops"
    modelfile.save(LogisticRegression().fit(X, y), SETTINGS, path)
    return path


def refused(path: Path, settings: Settings = SETTINGS) -> str:
    with pytest.raises(UserError) as error:
        modelfile.load(settings, path)
    return str(error.value)


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the file with another schema."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    files["schema.json"] = json.dumps(change(schema) or schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    script = TEXT_MODEL.format(tests=str(Path(__file__).parent), path=str(tmp_path / "other.skops"))
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    there = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    here = hashlib.md5(save_text_model(tmp_path / "here.skops"), usedforsecurity=False).hexdigest()
    assert here == there


def test_a_file_is_not_compressed_because_libraries_compress_differently(good: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_missing_file_is_reported_with_the_stage_that_makes_it(tmp_path: Path) -> None:
    assert refused(tmp_path / "model.skops").endswith("model.skops is missing\n  try: dvc repro train")


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -100])
def test_a_truncated_file_is_refused(good: Path, keep: int) -> None:
    good.write_bytes(good.read_bytes()[:keep])
    assert "is not a complete model file" in refused(good)


def test_a_flipped_byte_of_an_array_is_noticed(good: Path) -> None:
    content = bytearray(good.read_bytes())
    at = content.index(b"\x93NUMPY") + 200
    content[at] ^= 1
    good.write_bytes(content)
    assert "is not a complete model file: Bad CRC-32" in refused(good)


@pytest.mark.parametrize("content", [b"a model, honestly", pickle.dumps(LogisticRegression())], ids=["text", "pickle"])
def test_a_file_of_another_kind_is_refused(good: Path, content: bytes) -> None:
    good.write_bytes(content)
    assert "is not a complete model file" in refused(good)


def test_an_archive_without_a_schema_is_refused(good: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    good.write_bytes(buffer.getvalue())
    assert "is not a complete model file" in refused(good)


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: [schema],
        lambda schema: {"hello": "there"},
        lambda schema: {**schema, "protocol": 99},
        lambda schema: {**schema, "__loader__": "NoSuchNode"},
        lambda schema: {**schema, "content": schema},
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(good: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    changed(good, change)
    assert "is not a complete model file" in refused(good)


class Opener:
    """Opens a file when it is built: what a hostile model would do."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")

    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(state["path"]).touch()


@pytest.mark.parametrize(
    "hostile",
    [
        lambda trap: FunctionTransformer(os.system, kw_args={"command": f"touch {trap}"}),
        lambda trap: FunctionTransformer(partial(os.system, f"touch {trap}")),
        lambda trap: Opener(str(trap)),
    ],
    ids=["function", "partial", "class"],
)
def test_a_hostile_file_is_refused_before_anything_of_it_is_built(good: Path, hostile: Callable[[Path], Any]) -> None:
    trap = good.parent / "trap"
    good.write_bytes(skops.io.dumps(make_pipeline(hostile(trap), LogisticRegression())))
    message = refused(good)
    assert "contains types that are not trusted: " in message
    assert any(name in message for name in ("posix.system", "Opener"))
    assert not trap.exists()


def test_a_model_that_load_would_refuse_is_not_written(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(os.path.basename), LogisticRegression())
    with pytest.raises(UserError, match=r"let params.yaml say so:\n    trusted:\n      - posixpath.basename"):
        modelfile.save(model, SETTINGS, tmp_path / "model.skops")
    assert list(tmp_path.iterdir()) == []


def test_a_type_that_params_yaml_trusts_is_built(tmp_path: Path) -> None:
    model = FunctionTransformer(os.path.basename)
    settings = trusting("posixpath.basename")
    modelfile.save(model, settings, tmp_path / "model.skops")
    assert modelfile.load(settings, tmp_path / "model.skops").func is os.path.basename


# Files whose types are all trusted, and whose arrays are altered

Edits = dict[str, Any]
BEYOND = 10**9
WIDE = np.random.default_rng(0).normal(size=(200, 3))
LABELS = np.where(WIDE[:, 0] + WIDE[:, 1] ** 2 > 0.5, "yes", "no")
TOWNS = np.array([["A"], ["B"], ["C"], ["D"]] * 50)
TEXTS = [f"word{number % 7} and more" for number in range(200)]


def content_of(node: Any) -> Any:
    """What a node of a schema holds; an object holds a dictionary or a tuple, whose content it is."""
    content = node.get("content") if node else None
    while isinstance(content, dict) and "__loader__" in content:
        content = content.get("content")
    return content


def edited(path: Path, edits: Edits) -> None:
    """Change what a model file holds under a name: an array in place, or a plain value.

    Parameters
    ----------
    edits : dict of str to callable or object
        By name, behind that of an attribute of which it is a part, and before a place in a list, where they are needed:
        `attribute.name:place`. What returns None has changed the array itself.
    """
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    done = set()

    def change(node: dict[str, Any], edit: Any) -> None:
        if node["__loader__"] == "SparseMatrixNode":
            parts = dict(np.load(io.BytesIO(files[node["file"]])))
            edit(parts)
            buffer = io.BytesIO()
            np.savez(buffer, **parts)
            files[node["file"]] = buffer.getvalue()
        elif "file" in node:
            array = np.load(io.BytesIO(files[node["file"]]))
            found = edit(array)
            buffer = io.BytesIO()
            np.save(buffer, array if found is None else found)
            files[node["file"]] = buffer.getvalue()
        else:
            # skops builds a number once, for all places that share it
            node.update(content=json.dumps(edit), __id__=BEYOND + len(done))

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for each in node:
                visit(each)
        elif isinstance(node, dict):
            for name, edit in edits.items():
                path, _, place = name.partition(":")
                held: Any = {"content": node.get("content")}
                for key in [*path.split("."), *([int(place)] if place else [])]:
                    held = content_of(held)
                    fits = isinstance(held, dict) if isinstance(key, str) else isinstance(held, list)
                    held = held[key] if fits and (not isinstance(key, str) or key in held) else None
                if held and name not in done:
                    done.add(name)
                    change(held, edit)
            for value in node.values():
                visit(value)

    visit(schema)
    assert done == {*edits}
    files["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def set_to(value: Any, at: Any = slice(None), field: str | None = None) -> Callable[[Any], None]:
    def edit(array: Any) -> None:
        (array if field is None else array[field])[at] = value

    return edit


class Attack(NamedTuple):
    """A model, what is changed of it, the rows that it then fails with, and what `load` says."""

    model: Callable[[], Any]
    edits: Edits
    said: str
    rows: Any = WIDE


SPARSE = trusting("scipy.sparse._csr.csr_matrix", "sklearn.neighbors._ball_tree.BallTree")


def forest() -> Any:
    return RandomForestClassifier(3, random_state=0).fit(WIDE, LABELS)


def tree() -> Any:
    return DecisionTreeClassifier().fit(WIDE, LABELS)


def boosted() -> Any:
    return HistGradientBoostingClassifier(max_iter=3).fit(WIDE, LABELS)


def neighbours(algorithm: str) -> Any:
    return KNeighborsClassifier(algorithm=algorithm, p=1 if algorithm == "brute" else 2).fit(WIDE, LABELS)


def encoded() -> Any:
    encoder = OneHotEncoder(max_categories=3, handle_unknown="infrequent_if_exist", sparse_output=False)
    return make_pipeline(encoder, LogisticRegression()).fit(TOWNS, LABELS)


def counted() -> Any:
    return make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)


# Each ends the process that predicts with it, or keeps it busy for ever
FATAL = {
    "a tree's child beyond its nodes": Attack(
        forest,
        {"nodes": set_to(BEYOND, 0, "left_child")},
        "Tree at model.estimators_[0].tree_: the left child of node 0 is 1000000000, of",
    ),
    "a tree's child far before its nodes": Attack(
        forest,
        {"nodes": set_to(-BEYOND, 0, "right_child")},
        "Tree at model.estimators_[0].tree_: the right child of node 0 is -1000000000, of",
    ),
    "a tree that leads back to itself": Attack(
        forest,
        {"nodes": lambda nodes: (set_to(0, 0, "left_child")(nodes), set_to(0, 0, "right_child")(nodes))[0]},
        "the left child of node 0 is 0, of",
    ),
    "a tree that splits on a feature that does not exist": Attack(
        forest, {"nodes": set_to(BEYOND, 0, "feature")}, "node 0 splits on a feature that does not exist"
    ),
    "a boosted tree's child beyond its nodes": Attack(
        boosted,
        {"nodes": set_to(BEYOND, 0, "left")},
        "HistGradientBoostingClassifier at model: tree 0: the left child of node 0 is 1000000000, of",
    ),
    "a boosted tree that leads back to itself": Attack(
        boosted,
        {"nodes": lambda nodes: (set_to(0, 0, "left")(nodes), set_to(0, 0, "right")(nodes))[0]},
        "tree 0: the left child of node 0 is 0, of",
    ),
    "a boosted tree that splits on a feature that does not exist": Attack(
        boosted, {"nodes": set_to(BEYOND, 0, "feature_idx")}, "tree 0: node 0 splits on a feature that does not exist"
    ),
    "a k-d tree's row that does not exist": Attack(
        lambda: neighbours("kd_tree"),
        {"_tree:1": set_to(10**12)},
        "KDTree at model._tree: idx_array is not a permutation",
    ),
    "a neighbour's class that does not exist": Attack(
        lambda: neighbours("brute"),
        {"_y": set_to(10**12)},
        "KNeighborsClassifier at model: _y contains 1000000000000, but the range is 0 to 1",
    ),
    "a support vector before the first": Attack(
        lambda: SVC(kernel="linear").fit(WIDE, LABELS),
        {"_n_support": lambda counts: np.array([-(10**8), counts.sum() + 10**8], dtype=np.int32)},
        "SVC at model: _n_support is below 0",
    ),
    "a category's column that does not exist": Attack(
        encoded,
        {"_default_to_infrequent_mappings:0": set_to(BEYOND)},
        "_default_to_infrequent_mappings contains 1000000000, but the range is 0 to 3",
        TOWNS,
    ),
    "a word's column that does not exist": Attack(
        counted, {"word1": BEYOND}, "CountVectorizer at model.steps[0][1]: vocabulary_ skips a column", TEXTS
    ),
    "an index of a sparse matrix that does not exist": Attack(
        lambda: LogisticRegression().fit(WIDE, LABELS).sparsify(),
        {"coef_": lambda parts: parts["indices"].fill(BEYOND)},
        "csr_matrix at model.coef_: indices contains 1000000000, but the range is 0 to 2",
    ),
    "hashes that are divided by nothing": Attack(
        lambda: make_pipeline(HashingVectorizer(n_features=8), LogisticRegression()).fit(TEXTS, LABELS),
        {"n_features": 0},
        "HashingVectorizer at model.steps[0][1]: n_features is 0",
        TEXTS,
    ),
}

# What a child process does with a file; a hang ends with SIGALRM
ENDED = """
import os, pickle, signal, sys, warnings
import skops.io
warnings.simplefilter("ignore")
for folder in sys.argv[1:]:
    with open(f"{folder}/rows", "rb") as file:
        rows = pickle.load(file)
    with open(f"{folder}/model.skops", "rb") as file:
        content = file.read()
    child = os.fork()
    if not child:
        signal.alarm(5)
        try:
            model = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
            getattr(model, "predict_proba", model.predict)(rows)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def altered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The altered files."""
    found = {}
    for number, (name, attack) in enumerate(FATAL.items()):
        folder = tmp_path_factory.mktemp(f"altered{number}")
        (folder / "rows").write_bytes(pickle.dumps(attack.rows))
        found[name] = folder / "model.skops"
        modelfile.save(attack.model(), SPARSE, found[name])
        modelfile.load(SPARSE, found[name])
        edited(found[name], attack.edits)
    return found


def test_without_the_check_each_altered_file_ends_or_blocks_the_process(altered: dict[str, Path]) -> None:
    command = [sys.executable, "-c", ENDED, *(str(path.parent) for path in altered.values())]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    codes = dict(zip(altered, map(int, ran.stdout.split()), strict=True))
    deadly = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGALRM}
    assert {name: code for name, code in codes.items() if code not in deadly} == {}, ran.stderr


@pytest.mark.parametrize("name", FATAL)
def test_a_file_that_would_crash_the_process_is_refused_in_words(altered: dict[str, Path], name: str) -> None:
    said = refused(altered[name], SPARSE)
    assert said.startswith(f"{altered[name]} would crash the process that predicts with it: ")
    assert FATAL[name].said in said
    assert "\n  try: dvc checkout" in said


# Where a crash is a matter of luck, or of another method than `predict`
UNFIT = {
    "a node with two parents": (
        forest,
        {"nodes": lambda nodes: set_to(nodes["left_child"][0], 0, "right_child")(nodes)},
    ),
    "a leaf with a child": (
        forest,
        {"nodes": lambda nodes: set_to(0, np.flatnonzero(nodes["left_child"] < 0)[0], "right_child")(nodes)},
    ),
    "a node without threshold": (forest, {"nodes": set_to(np.nan, 0, "threshold")}),
    "no nodes": (forest, {"node_count": 0}),
    "a tree that is deeper than it says": (forest, {"tree_.max_depth": 1}),
    "a tree that takes fewer features than it asks for": (tree, {"n_features_in_": 1}),
    "a number of features that is none": (tree, {"n_features_in_": "3"}),
    "a crowd of threads": (forest, {"n_jobs": 100_000}),
    "a boosted tree without nodes": (boosted, {"nodes": lambda nodes: nodes[:0]}),
    "boosted trees of more features": (boosted, {"n_features_in_": 1}),
    "a split by a category that is none": (boosted, {"nodes": set_to(1, slice(None), "is_categorical")}),
    "a start of too few numbers": (
        lambda: GradientBoostingClassifier(n_estimators=2).fit(WIDE, np.digitize(WIDE[:, 0], [-0.5, 0.5])),
        {"class_prior_": lambda prior: prior[:2]},
    ),
    "a k-d tree's node of other rows": (lambda: neighbours("kd_tree"), {"_tree:2": set_to(BEYOND, -1, "idx_end")}),
    "a k-d tree with more nodes than rows": (lambda: neighbours("kd_tree"), {"_tree:6": 1000}),
    "a ball tree of other features": (lambda: neighbours("ball_tree"), {"_tree:3": lambda array: array[:, :, :2]}),
    "fewer neighbours than it says": (lambda: neighbours("brute"), {"n_samples_fit_": BEYOND}),
    "neighbours of other features": (lambda: neighbours("brute"), {"n_features_in_": 2}),
    "too few coefficients of support vectors": (
        lambda: SVC().fit(WIDE, LABELS),
        {"_dual_coef_": lambda array: np.ascontiguousarray(array[:, :1])},
    ),
    "too few intercepts": (lambda: SVC().fit(WIDE, WIDE[:, 0].round()), {"_intercept_": lambda array: array[:1]}),
    "support vectors of other features": (lambda: SVC().fit(WIDE, LABELS), {"n_features_in_": 4}),
    "a kernel that is not checked": (lambda: SVC().fit(WIDE, LABELS), {"kernel": "precomputed"}),
    "another kind of support vectors": (lambda: SVC().fit(WIDE, LABELS), {"gamma": 1.0, "_sparse": True}),
    "too few columns of categories": (encoded, {"_n_features_outs:0": 2}),
    "a sparse matrix whose rows end before they start": (
        lambda: LogisticRegression().fit(WIDE, np.digitize(WIDE[:, 0], [-0.5, 0.5])).sparsify(),
        {"coef_": lambda parts: set_to(BEYOND, 1)(parts["indptr"])},
    ),
    "a number of threads below 1": (lambda: KMeans(2).fit(WIDE), {"_n_threads": -2}),
    "centres of other features": (lambda: KMeans(2).fit(WIDE), {"n_features_in_": 2}),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_file_whose_arrays_do_not_fit_together_is_refused(name: str, tmp_path: Path) -> None:
    model, edits = UNFIT[name]
    path = tmp_path / "model.skops"
    modelfile.save(model(), SPARSE, path)
    edited(path, edits)
    assert "would crash the process that predicts with it: " in refused(path, SPARSE)


def test_a_value_does_not_take_the_place_of_a_method_that_checks_the_rows() -> None:
    model = forest()
    model.estimators_[0]._validate_X_predict = np.add
    with pytest.raises(bounds.AlteredError, match=r"model.estimators_\[0\]: _validate_X_predict is a method"):
        bounds.check(model)


def test_a_model_that_load_would_refuse_for_its_arrays_is_not_written(tmp_path: Path) -> None:
    model = SVC(kernel="precomputed").fit(WIDE @ WIDE.T, LABELS)
    with pytest.raises(UserError, match="kernel is 'precomputed', which is not checked"):
        modelfile.save(model, SETTINGS, tmp_path / "model.skops")
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(good: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, "zeros.npy": bytes(10**7)}.items():
            archive.writestr(name, content)
    assert "is not a complete model file: its content is larger than the file" in refused(good)


def test_an_array_that_claims_more_memory_than_there_is_is_refused(good: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in files if name.endswith(".npy"))
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    with zipfile.ZipFile(good, "w") as archive:
        for each, content in {**files, name: buffer.getvalue()}.items():
            archive.writestr(each, content)
    assert "is not a complete model file: Unable to allocate" in refused(good)


LIGHTGBM = trusting("collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier")


def prepare(**columns: list[float]) -> None:
    """Write a table of numbers as the stages `ingest` and `split` do."""
    described = [
        {"name": name, "kind": "numeric", "type": "double", "unit": None, "missing": 0, "distinct": None}
        for name in columns
    ]
    write_json({"source": "x", "rows": 2, "sha256": "", "columns": described}, paths.CATALOGUE)
    for path in (paths.TEST, paths.TRAIN):
        tables.write(pa.table(columns), path)


@pytest.mark.parametrize(
    ("child", "ended"), [("90000000", "ends with SIGABRT"), ("0", "does not end")], ids=["beyond", "cycle"]
)
def test_a_file_of_another_package_is_tried_in_a_process_of_its_own(
    child: str, ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pd.DataFrame(WIDE, columns=["a", "b", "c"])
    prepare(**{name: rows[name].tolist() for name in rows})
    path = tmp_path / "model.skops"
    model = lightgbm.LGBMClassifier(n_estimators=3, verbosity=-1, n_jobs=1).fit(rows, LABELS)
    modelfile.save(model, LIGHTGBM, path)
    modelfile.load(LIGHTGBM, path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = files["schema.json"].decode()
    start = schema.index("left_child=") + len("left_child=")
    end = min(schema.index(ending, start) for ending in (" ", "\\"))
    files["schema.json"] = (schema[:start] + child + schema[end:]).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    monkeypatch.setattr(modelfile, "SECONDS_TRIED", 10 if child == "0" else modelfile.SECONDS_TRIED)
    with pytest.raises(UserError) as error:
        modelfile.load(LIGHTGBM, path)
    said = str(error.value)
    assert said.startswith(f"{path} cannot be used: a process that loads it and predicts with it {ended}; ")
    assert "types whose content is not checked: collections.OrderedDict, lightgbm.basic.Booster" in said


class Deadly(BaseEstimator):
    """Ends the process where it meets a large number."""

    feature_names_in_ = ("size",)

    def predict(self, X: Any) -> Any:
        if (X["size"] > 2).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        return X["size"] > 1


@pytest.mark.parametrize(("largest", "deadly"), [(2.0, False), (3.0, True)], ids=["harmless rows", "a deadly row"])
def test_the_other_process_predicts_with_the_prepared_rows(
    largest: float, deadly: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    prepare(size=[1.0, largest])
    settings = trusting(f"{__name__}.Deadly")
    modelfile.save(Deadly(), settings, tmp_path / "model.skops")
    if not deadly:
        assert isinstance(modelfile.load(settings, tmp_path / "model.skops"), Deadly)
        return
    with pytest.raises(UserError, match="predicts with it ends with SIGSEGV"):
        modelfile.load(settings, tmp_path / "model.skops")
