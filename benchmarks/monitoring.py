"""The monitor's tests: false alarms, delays, and performance estimated without labels, beside peers."""

from __future__ import annotations

from benchmarks import alarms, estimated

LIBRARIES = """Libraries that do such work were tried on 2026-11-27, with Python 3.11:

| library | with this lock | used |
| --- | --- | --- |
| MAPIE 1.6.0 | resolves, and imports with pandas 3.1 | the oracle of the sequential tests |
| Evidently 0.7.23 | resolves; its import fails with pandas 3.1 (`infer_dtype_from_object`) | no |
| NannyML 0.13.1 | does not resolve (lightgbm < 4.6); alone, it imports with pandas 3.1 | above, apart |
| alibi-detect 0.13.0 | does not resolve (NumPy 1.26, pandas 2.3); uv falls back to 0.4.4 | no |
| frouros 0.9.0 | does not resolve (NumPy 2.1) | no: it finds a change, without a rate over years |
| whylogs 1.6.4 | resolves with an older platformdirs, and imports | no: it makes profiles, and tests nothing |
"""


def measure() -> str:
    parts = {
        "False alarms": alarms.false_alarms(),
        "Delay": alarms.delays(),
        "Estimated performance": estimated.estimates(),
        "Other libraries": LIBRARIES,
    }
    return "\n\n".join(f"### {title}\n\n{text.strip()}" for title, text in parts.items())
