"""Run a script as `python SCRIPT ...` would, without garbage collections: a third of its time, which imports take.

`python without_collections.py SCRIPT ...`
"""

import atexit
import gc
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    gc.disable()
    atexit.register(gc.freeze)
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
