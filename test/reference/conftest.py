"""Lets the tests of this folder import the modules beside them under pytest's importlib mode."""

import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)
