from pathlib import Path

from profiling.api import Pair as Pair
from profiling.api import Results as Results
from profiling.api import compare as compare
from profiling.api import load as load
from profiling.api import measure_pair as measure_pair
from profiling.api import predict as predict
from profiling.api import run as run

PACKAGE: Path
PROJECT: Path

def import_path() -> str: ...
