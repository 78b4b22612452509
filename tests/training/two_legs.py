"""The recipe as a whole run, as one that was stopped before its end, and without the project, in the same processes.

Run by test_resume.py.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch.distributed

from recipes import distill

OUTPUT = Path(sys.argv[sys.argv.index("--output") + 1])

if __name__ == "__main__":
    distill.main()
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        (OUTPUT / "records").rename(OUTPUT / "first")
        shutil.rmtree(next((OUTPUT / "checkpoints").glob("*/checkpoint-12")))
    torch.distributed.barrier()
    distill.main()
    torch.distributed.barrier()
    distill.project = None
    sys.argv += ["--data", "build/tiny/data/mixture", "--output", str(OUTPUT / "alone")]
    distill.main()
