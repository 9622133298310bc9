"""Runs the blocks of a page in the present folder: python run_page.py PAGE, with the blocks as JSON on stdin.

Python goes on in one namespace from block to block, as in a notebook. Every block of shell is a script of its own,
which ends at the first command that fails.
"""

import json
import subprocess
import sys

page = sys.argv[1]
namespace: dict[str, object] = {"__name__": "__main__"}
for language, code, line in json.load(sys.stdin):
    if language == "python":
        # Tracebacks name the line of the page.
        exec(compile("\n" * line + code, page, "exec"), namespace)
    else:
        sys.stdout.flush()
        subprocess.run(["bash", "-euxo", "pipefail", "-c", code], check=True)
