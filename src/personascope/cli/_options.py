"""Options that several commands share, with their choices and ranges."""

from __future__ import annotations

import math
from typing import Literal

import typer

from personascope.errors import UsageError

EngineName = Literal["auto", "transformers", "vllm"]
ProfileName = Literal["quick", "standard", "paper"]
VectorsName = Literal["played", "rubric"]
DtypeName = Literal["auto", "bfloat16", "float32", "float16"]
ThinkingName = Literal["on", "off"]
PartName = Literal["answer", "thinking", "response"]
PlanOnName = Literal["both", "second"]
ControlName = Literal["isotropic", "shuffled", "role-span"]
PopulationName = Literal["roles", "roles and traits"]
"""Choices and built-in names of other rooms, repeated here so that a command's help loads none of them."""

DOMAINS = "coding,writing,therapy,philosophy"
ASSISTANT_LIKE = "coding,writing"
AUDITORS = "scripted, self, local:MODEL, openai:MODEL@BASE_URL"


def finite(value: float | None) -> float | None:
    """Check that an option's number is finite; ranges do not exclude "nan" and "inf".

    Raises:
        BadParameter: If the number is not finite.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


RUN = typer.Argument(..., help="Run folder of the model's map, or hub:owner/name.")
RUN_KEPT = typer.Argument(..., help="Run folder of a map that kept responses (the default).")
MODEL = typer.Option(None, help="Model, if it lies elsewhere than when it was mapped.")
ENGINE = typer.Option("auto", "--engine", help="Engine; auto is vllm where it is installed.")
DTYPE = typer.Option("auto", help="Type of the weights; auto is bfloat16 where the hardware computes in it.")
BATCH = typer.Option(128, min=1, max=2**16, help="Responses that are generated side by side.")
WORKERS = typer.Option(1, min=1, max=4096, help="Engines that share the requests; more than one need Ray.")
ADDRESS = typer.Option(None, help="Ray cluster of the workers: auto, ray://HOST:10001; else this machine.")
TRUST = typer.Option(False, help="Run code that comes with the model.")
MAX_SEED = 2**63 - 1
SEED = typer.Option(0, min=0, max=MAX_SEED, help="Random seed.")
DRY_RUN = typer.Option(False, "--dry-run", help="Print what it would take, and stop.")
RESTART = typer.Option(False, help="Forget the run that is in the folder.")
CORPUS = typer.Option(None, help="Corpus folder; the built-in one if not given.")
TRAIT_CORPUS = typer.Option(
    None, "--corpus", help="File or folder of traits, in either format; the built-in ones if not given."
)
JUDGE = typer.Option("rules", help="rules (offline), openai:MODEL@BASE_URL, local:MODEL or none.")
FALLBACK = typer.Option(
    None, "--fallback-judge", help="Asked for what the judge refuses or gives no label; the same forms."
)
_HEADER = "NAME=VARIABLE: header for {}'s server, its value in that environment variable; may be repeated."
JUDGE_HEADER = typer.Option(None, "--judge-header", help=_HEADER.format("the judge"))
FALLBACK_HEADER = typer.Option(None, "--fallback-header", help=_HEADER.format("the second judge"))
AUDITOR_HEADER = typer.Option(None, "--auditor-header", help=_HEADER.format("the auditor"))
_PRICE = "IN,OUT: price of a million tokens sent and received, of {}'s server."
JUDGE_PRICE = typer.Option(None, "--judge-price", help=_PRICE.format("the judge"))
FALLBACK_PRICE = typer.Option(None, "--fallback-price", help=_PRICE.format("the second judge"))
MAX_COST = typer.Option(
    None, callback=finite, min=0.0, help="Stop judging when a judge has cost this much; needs its price."
)
EVALUATION = typer.Option(None, "--out", help="Folder of the evaluation; <run>/evals/<name> if not given.")
STRENGTHS = typer.Option("-0.4,-0.2,-0.1,0,0.1,0.2,0.4", help="Steering strengths, with commas.")
PLANS = typer.Option(None, "--plan", help="Evaluate this plan instead of steering; may be given again.")
N_RANDOM = typer.Option(2, min=0, max=10_000, help="Controls of each kind beside every plan or strength.")
CONTROLS = typer.Option(
    "isotropic,shuffled,role-span", help="Kinds of controls. What beats all three is called an effect."
)
LAYER = typer.Option(None, min=0, help="Layer that is acted on; the map's middle layer if not given.")
POPULATION = typer.Option(
    "roles", help="Responses that floors are percentiles of; the paper takes roles and traits."
)
PERSONAS = typer.Option(
    None, help="Personas that questions without system prompts are crossed with: builtin, or a YAML file."
)
ANYWAY = typer.Option(False, "--anyway", help="Go on where the map's verdict is that there is no axis.")

THINKING = typer.Option(
    None, help="Whether the model thinks before it answers, where its chat template has a switch; else off."
)
TEMPLATE_ARG = typer.Option(
    None, metavar="NAME=VALUE", help="Value of a variable of the chat template; may be given again."
)
MAX_THINKING = typer.Option(
    None,
    min=1,
    help="Tokens of thinking at most, beside those of the answer; four times as many if not given.",
)


def numbers(text: str, name: str) -> list[float]:
    """Parse a comma-separated list of numbers.

    Raises:
        UsageError: If the list is empty, or an item is no finite number.
    """
    hint = "give numbers with commas, such as -0.2,0,0.2"
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"--{name} {text!r}: {error}", hint=hint) from error
    if not found or not all(map(math.isfinite, found)):
        what = "holds no number" if not found else "holds a number that is not finite"
        raise UsageError(f"--{name} {text!r} {what}", hint=hint)
    return found


def integers(text: str, name: str) -> list[int]:
    """Parse a comma-separated list of whole numbers from 0.

    Raises:
        UsageError: If the list is empty, or an item is no such number.
    """
    parts = names(text)
    if not parts or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError(
            f"--{name} {text!r} is no list of whole numbers", hint="give them with commas, such as 12,15"
        )
    return [int(part) for part in parts]


def names(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of names."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
