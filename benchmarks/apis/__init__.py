"""Who takes part, by API: all that read the same bytes are in one module, as `CONTENDERS`.

They are named as in the tables, with what they stand on: "ours/httpx".
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "examples"))  # which are programs, in no package
