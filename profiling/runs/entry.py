"""The entry of a run: hands the command line to Hydra, and turns mistakes into one line."""

from __future__ import annotations

import os
import sys

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from profiling.arguments import ending_quietly, print_anything, refuse
from profiling.errors import ConfigError
from profiling.points.help import describe_command
from profiling.points.options import CONF
from profiling.points.overrides import (
    check_overrides,
    explain,
    fails_in_hydra,
    refuse_for_hydra,
)
from profiling.runs.sweep import INTERRUPTED, run_job


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> str:
    return run_job(config)


def main() -> None:
    # Hydra turns an exception into a traceback and status 1; this has it raise instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    print_anything()
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(describe_command())
        return
    try:
        check_overrides(sys.argv[1:])
        with ending_quietly():
            run()
    except ConfigError as error:
        refuse(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (HydraException, OmegaConfBaseException) as error:
        refuse(explain(error))
    except (AssertionError, TypeError, ValueError, AttributeError, KeyError) as error:
        if not fails_in_hydra(error):
            raise
        refuse(refuse_for_hydra(error))


if __name__ == "__main__":
    main()
