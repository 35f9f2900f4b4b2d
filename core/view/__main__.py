"""The live view as a process of its own: `python -m core.view RUN --host 127.0.0.1 --port 8765`.

The first line of its input is the token; it ends when its input does, so that it never outlives who began it. The first
line of its output is a JSON object with `url` or with `problem`.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path


def main() -> int:
    """Returns 2 for an address that cannot be served."""
    from .address import Address
    from .serving import serve

    arguments = argparse.ArgumentParser(prog="core.view", description="Serve a run's live view.")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--host", required=True)
    arguments.add_argument("--port", type=int, required=True)
    asked = arguments.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    token = sys.stdin.buffer.readline().decode().strip()
    if not token:  # whoever began it has ended already
        return 0

    def tell(address: Address) -> None:
        print(json.dumps({"url": address.url}), flush=True)

    try:
        serve(asked.folder, host=asked.host, port=asked.port, token=token, tell=tell, wait=_end_of_input)
    except OSError as error:
        print(json.dumps({"problem": f"{asked.host}:{asked.port}: {error.strerror or error}"}), flush=True)
        return 2
    return 0


def _end_of_input() -> None:
    while os.read(0, 4096):  # not through sys.stdin, whose lock a thread that waits would hold when the process ends
        pass


if __name__ == "__main__":
    sys.exit(main())
