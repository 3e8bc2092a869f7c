"""Map a model's persona space, then see where the turns of a conversation lie on its Assistant Axis."""

import sys
from pathlib import Path

from personascope.chat import Message
from personascope.corpus import load_corpus
from personascope.engines import Capture, load_engine
from personascope.judge import parse_judge
from personascope.mapping import MAP, run_map
from personascope.space import PersonaMap

name, profile, out = sys.argv[1:] or ("smollm2-135m", "quick", "runs/demo")
engine = load_engine(name)
run_map(engine, load_corpus(), profile, out=Path(out), judge=parse_judge("rules"))

found = PersonaMap.open(Path(out) / MAP)
layer = found.middle_layer
chat = (
    Message("user", "Who are you?"),
    Message("assistant", "I am the wind that waits behind the door, and I have forgotten my name."),
    Message("user", "Can you help me plan my week?"),
    Message("assistant", "Of course. Start with the three tasks that matter most."),
)
for turn in engine.observe(chat, capture=Capture((layer,))):
    projection = float(turn.pooled[0] @ found.unit_axis(layer))
    # 0 is the mean role, 1 the default Assistant.
    print(f"{turn.role:9} {projection:+8.2f} {found.to_units(projection, layer):+6.2f}")
