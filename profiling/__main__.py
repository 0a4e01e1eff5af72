"""The command of an installed package: vlm-profile COMMAND [argument …]"""

from __future__ import annotations

import runpy
import sys

from profiling.arguments import ending_quietly

# By command: the module that is run, and what it does.
COMMANDS = {
    "run": ("runs.entry", "measure one point, or sweep with -m (what main.py does)"),
    "report": ("report", "pages and tables about results; compare, gate, best"),
    "versus": ("versus", "two points measured in turn, and their ratio with an interval"),
    "cost": ("cost", "FLOPs, bytes and parameters of a point, without running it"),
    "selfcheck": ("selfcheck", "compare every instrument with a known answer"),
    "fetch": ("fetch", "download samples of the public datasets"),
    "merge": ("merge", "merge results folders"),
    "capture": ("capture", "record the calls of a model's modules"),
    "verify": ("verify", "judge captured calls against other functions"),
    "partition": ("partition", "cut a model into parts, export and run them"),
}
_NAME = "vlm-profile"
_COMPLETION = "completion"
# Hydra completes the keys of a run. It expects one word before them, where this command has two.
_BASH = """\
_vlm_profile() {
    local word=${COMP_WORDS[COMP_CWORD]} line=${COMP_LINE/vlm-profile run/vlm-profile-run}
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "%s" -- "$word"))
    elif [ "${COMP_WORDS[1]}" == run ]; then
        COMPREPLY=($(compgen -W "$(COMP_LINE=$line COMP_POINT=${#line} \\
            vlm-profile run -sc query=bash 2> /dev/null)" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _vlm_profile vlm-profile"""


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        with ending_quietly():
            print(describe())
        return
    if arguments[0] == _COMPLETION:
        with ending_quietly():
            print(_BASH % " ".join(COMMANDS))
        return
    if arguments[0] not in COMMANDS:
        sys.exit(refuse(arguments[0]))
    module = f"profiling.{COMMANDS[arguments[0]][0]}"
    sys.argv = [f"{_NAME} {arguments[0]}", *arguments[1:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def describe() -> str:
    rows = (f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items())
    completion = f'  {_COMPLETION:<10} for bash: eval "$({_NAME} {_COMPLETION})"'
    return "\n".join([f"{_NAME} COMMAND [argument ...]", "", *rows, completion])


def refuse(name: str) -> int:
    print(f"{_NAME} {name!r}: allowed is one of {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
