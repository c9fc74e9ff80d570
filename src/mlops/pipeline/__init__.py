"""What `dvc repro` runs: one module per stage, named as the stage.

Importing this package pins what would otherwise let two machines disagree in the last bits of a float: the number
of threads, and the newest instructions that numpy and OpenBLAS may choose: AVX2, which any x86-64 server has, and NEON,
which any arm64 one has. On macOS nothing is pinned, because Apple's library computes there.
"""

import gc
import os
import platform

# a stage makes little cyclic garbage; by default, looking for it takes a seventh of the time of the imports
gc.set_threshold(50_000, 20)

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
if platform.machine() == "x86_64":
    os.environ["OPENBLAS_CORETYPE"] = "Haswell"
    os.environ["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR"
elif (platform.system(), platform.machine()) == ("Linux", "aarch64"):
    os.environ["OPENBLAS_CORETYPE"] = "ARMV8"
    os.environ["NPY_DISABLE_CPU_FEATURES"] = "ASIMDHP ASIMDDP ASIMDFHM SVE"
