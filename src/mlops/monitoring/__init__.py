"""What production reports: the prediction log and labels, compared with what the release recorded.

Importing this package sets the number of threads to one: on a few thousand rows, the threads of the classifier in
`classifier` wait for each other, which takes up to ten times the processor time.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
