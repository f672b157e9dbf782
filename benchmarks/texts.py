"""64 texts about fields, together, against llama-cpp-python one by one, in one interleaved run.

Both have the same weights file and the same prompts; the peer writes as many tokens as our texts
have on average, and keeps the prompt's common beginning in its cache, as it does by default.

    python benchmarks/texts.py --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import time

import llama_cpp

from synthgen_local import LocalModel, TextGenerator
from synthgen_local.models.sources import find

TEXTS = 64
ONE_BY_ONE = 8  # texts of the peer in a round: its rate does not depend on their number
MODEL = "smollm2-135m-instruct"
_NAMES = ("Ada Byrne", "Omar Haddad", "Mei Lin", "Lars Holm", "Ines Costa", "Noa Levi", "Ravi Rao")
_TOWNS = ("Oslo", "Lima", "Porto", "Kyoto", "Ghent", "Quito", "Tunis", "Turin", "Bergen")
_JOBS = ("nurse", "baker", "pilot", "teacher", "welder")
RECORDS = [
    {
        "name": _NAMES[index % len(_NAMES)],
        "town": _TOWNS[index % len(_TOWNS)],
        "job": _JOBS[index % len(_JOBS)],
    }
    for index in range(TEXTS)
]


def main() -> None:
    """Print the rates of each round and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    path = str(find(MODEL))
    peer = llama_cpp.Llama(path, n_ctx=2048, verbose=False)
    ratios = []
    with LocalModel.load(MODEL) as model:
        generator = TextGenerator(model)
        model.pieces  # noqa: B018 tables of the vocabulary, made once a process
        for number in range(rounds):
            start = time.monotonic()
            texts = list(generator.texts(RECORDS, {"max_length": 300}, seed=number))
            ours = TEXTS / (time.monotonic() - start)
            tokens = sum(len(model.engine.tokenize(text.text)) for text in texts) // TEXTS
            start = time.monotonic()
            for record in RECORDS[:ONE_BY_ONE]:
                peer.create_completion(
                    generator.prompt_text(record),
                    max_tokens=tokens,
                    temperature=0.7,
                    logit_bias={str(peer.token_eos()): -100},
                )
            theirs = ONE_BY_ONE / (time.monotonic() - start)
            ratios.append(ours / theirs)
            print(
                f"{tokens} tokens a text: ours {ours:.2f} texts/s, llama-cpp-python "
                f"{theirs:.2f} texts/s, {ratios[-1]:.2f} times as fast"
            )
    print(f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
