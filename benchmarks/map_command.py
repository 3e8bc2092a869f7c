"""The whole command ``personascope map``, three ways, each a process of its own from start to map.

The plugin in vLLM, the Transformers engine, and the two-pass way: stock vLLM generates, then a Transformers
forward pass with hooks keeps means (batches of 16 sorted by length, no LM head). Design, judge, sums,
bootstrap and files are the same code in all three. Afterwards the rollouts of the vLLM run are read once
more by Transformers, a map is made of those activations, and the axes are compared.

    python benchmarks/map_command.py runs/bench [PROFILE]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from capture import second_pass
from paired import write_page

from personascope.chat import Conversation
from personascope.corpus import load_corpus
from personascope.engines import Completion, EngineInfo, Request, load_engine
from personascope.judge import parse_judge
from personascope.mapping import MAP, run_map
from personascope.models import open_files
from personascope.space import PersonaMap

MODEL = "smollm2-135m"
WINDOW = 512


class SecondPass:
    """An engine of two passes: ``generate`` gives token ids, Transformers the activations."""

    def __init__(self) -> None:
        """Load the model in Transformers."""
        self.transformers = load_engine(MODEL)

    @property
    def info(self) -> EngineInfo:
        """Identity of the model."""
        return self.transformers.info

    def count_tokens(self, conversation: Conversation) -> int:
        """Return the length of a prompt."""
        return self.transformers.count_tokens(conversation)

    def generate(self, requests: list[Request], prompts: dict[str, list[int]]) -> list[Completion]:
        """Return completions without activations."""
        raise NotImplementedError

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate, then pool in a pass of its own, a window after the other."""
        source = iter(requests)
        while part := list(islice(source, WINDOW)):
            prompts = {r.id: self.transformers.chat.render(r.prompt) for r in part}  # pyright: ignore
            done = self.generate(part, prompts)
            means = second_pass(self.transformers, prompts, done)
            for c in done:
                yield Completion(
                    c.id,
                    c.text,
                    c.token_ids,
                    c.finish_reason,
                    len(prompts[c.id]),
                    means.get(c.id),
                    len(c.token_ids),
                )


class TwoPasses(SecondPass):
    """Stock vLLM, then the second pass."""

    def __init__(self) -> None:
        """Start vLLM beside the model in Transformers."""
        super().__init__()
        threads = torch.get_num_threads()
        # In this process, as the plugin's engine runs it.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import LLM

        torch.set_num_threads(threads)
        self.llm = LLM(
            model=open_files(MODEL).place,
            dtype=self.info.dtype,
            max_num_seqs=128,
            max_model_len=8192,
            disable_log_stats=True,
            enforce_eager=True,
            kv_cache_memory_bytes=2 << 30,
            block_size=32,
        )

    def generate(self, requests: list[Request], prompts: dict[str, list[int]]) -> list[Completion]:
        """Return completions without activations."""
        from vllm import SamplingParams

        eos = self.transformers.files.eos_token_ids
        params = [
            SamplingParams(
                temperature=r.sampling.temperature,
                top_p=r.sampling.top_p,
                max_tokens=r.sampling.max_new_tokens,
                min_tokens=r.sampling.min_new_tokens,
                stop_token_ids=sorted(eos),
            )
            for r in requests
        ]
        outputs = self.llm.generate(
            [{"prompt_token_ids": list(prompts[r.id])} for r in requests], params, use_tqdm=False
        )
        done = []
        for request, output in zip(requests, outputs, strict=True):
            ids = tuple(t for t in output.outputs[0].token_ids if t not in eos)
            reason = "length" if output.outputs[0].finish_reason == "length" else "stop"
            done.append(Completion(request.id, self.transformers.decode(ids), ids, reason, 0))
        return done


class Reread(SecondPass):
    """The rollouts of another run, from their texts."""

    def __init__(self, run: Path) -> None:
        """Read the texts of a run."""
        super().__init__()
        self.rows = {
            row["id"]: row
            for path in run.glob("units/*/rollouts.parquet")
            for row in pq.ParquetFile(path).read().to_pylist()
        }
        self.same = self.other = 0

    def generate(self, requests: list[Request], prompts: dict[str, list[int]]) -> list[Completion]:
        """Return completions without activations."""
        done = []
        for request in requests:
            row = self.rows[request.id]
            ids = self.transformers.encode(row["text"])
            self.same += len(ids) == row["token_count"]
            self.other += len(ids) != row["token_count"]
            done.append(
                Completion(request.id, row["text"], ids, row["finish_reason"], len(prompts[request.id]))
            )
        return done


def build(engine: SecondPass, out: Path, profile: str) -> None:
    run_map(
        engine,  # pyright: ignore
        load_corpus(),
        profile,
        out=out,
        judge=parse_judge("rules"),
        role_information=False,
    )


def main(folder: Path, profile: str) -> None:
    command = [str(Path(sys.executable).with_name("personascope")), "map", MODEL, "--profile", profile]
    # What is compared is one pass against two, without what is done to the responses afterwards.
    command.append("--no-role-information")
    ways = {
        "personascope map --engine vllm": [*command, "--engine", "vllm", "--out", str(folder / "vllm")],
        "personascope map --engine transformers": [
            *command,
            "--engine",
            "transformers",
            "--out",
            str(folder / "transformers"),
        ],
        "stock vLLM, then a Transformers pass": [
            sys.executable,
            __file__,
            "--two",
            str(folder / "two"),
            profile,
        ],
    }
    # A way that was timed is not run again.
    notes = folder / "seconds.json"
    seconds: dict[str, float] = json.loads(notes.read_text()) if notes.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, argv in ways.items():
        if name in seconds:
            continue
        begun = time.perf_counter()
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds[name] = time.perf_counter() - begun
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
        notes.write_text(json.dumps(seconds))
    report(folder, profile, seconds)


def report(folder: Path, profile: str, seconds: dict[str, float]) -> None:
    reread = Reread(folder / "vllm")
    build(reread, folder / "reread", profile)
    maps = {name: PersonaMap.open(folder / name / MAP) for name in ("vllm", "transformers", "two", "reread")}
    tokens = {
        name: sum(
            pq.ParquetFile(path).read(["token_count"])["token_count"].to_numpy().sum()
            for path in (folder / name).glob("units/*/rollouts.parquet")
        )
        for name in ("vllm", "transformers", "two")
    }

    def cosines(a: str, b: str) -> np.ndarray:
        return np.array([float(maps[a].unit_axis(x) @ maps[b].unit_axis(x)) for x in range(maps[a].n_layers)])

    same, middle = cosines("vllm", "reread"), maps["vllm"].middle_layer
    ours, other, two = seconds.values()
    lines = ["| way | seconds | response tokens | ratio to vllm |", "|---|---|---|---|"]
    for (name, value), count in zip(seconds.items(), tokens.values(), strict=True):
        lines.append(f"| {name} | {value:.0f} | {count:,} | {value / ours:.2f} |")
    others = "; ".join(
        f"{name}: {cosines('vllm', key)[middle]:.3f}"
        for name, key in (("Transformers engine", "transformers"), ("two passes", "two"))
    )
    write_page(
        __file__,
        "The whole command",
        f"`personascope map {MODEL} --profile {profile}`, {len(reread.rows):,} rollouts, one run each, a "
        "process from start to map.\n\n"
        + "\n".join(lines)
        + f"\n\nThe command is {two / ours:.2f} times as fast in vLLM as in two passes, and "
        f"{other / ours:.2f} times as fast as with the Transformers engine.\n\n"
        f"The rollouts of the vLLM run, read once more by Transformers ({reread.same} of "
        f"{reread.same + reread.other} with the same number of tokens when tokenised from their text): the "
        f"axes' cosine is at least {same.min():.5f} at every layer, {same[middle]:.5f} at layer {middle}. "
        f"With other draws of the same design it is, at layer {middle}, {others}.",
    )


if __name__ == "__main__":
    if sys.argv[1] == "--two":
        build(TwoPasses(), Path(sys.argv[2]), sys.argv[3])
    else:
        main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "standard")
