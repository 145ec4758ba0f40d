"""Ask `wavellama serve` what is said in a file, with OpenAI's client, and print it bit by bit.

python examples/ask_server.py FILE [URL [LANG]]
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI


def main(file: str, url: str = "http://127.0.0.1:8000", lang: str | None = None) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("WAVELLAMA_API_KEY") or "none")
    model = next(iter(client.models.list())).id
    with open(file, "rb") as audio:
        events = client.audio.transcriptions.create(
            file=audio, model=model, stream=True, extra_body={"language": lang or ""}
        )
        for event in events:
            if event.type == "transcript.text.delta":
                print(event.delta, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
