"""A scripted language model: fixed, valid replies to each of segwright's prompts.

It knows a prompt by its first words, and answers by what stands in it alone, so that the same
prompt always has the same reply. Ideas come from a list; a network is the scaffold or the parent's
file with the asked class added and used.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

IDEAS: list[dict[str, Any]] = [
    {
        "title": "Edge-weighted skips",
        "why": "borders of the blocks are blurred by pooling",
        "module": ("EdgeGate", "skip", [0]),
        "idea": "a skip is weighed by the local contrast of its own features",
    },
    {
        "title": "Wide context bottleneck",
        "why": "the deepest stage sees too little of the slice",
        "module": ("ContextMixer", "bottleneck", []),
        "idea": "averages over the whole map are added to every place of the bottleneck",
    },
    {
        "title": "Noise-aware stem",
        "why": "Gaussian noise reaches every stage unfiltered",
        "module": ("NoiseFilter", "encoder", [0]),
        "idea": "a learnt low-pass filter with a residual path cleans the finest features",
    },
    {
        "title": "Attention gates on the finest skip",
        "why": "background responses pass the skips",
        "module": ("attention_gate", "skip", [0]),
        "idea": "coarse features decide which places of a skip pass",
    },
    {
        "title": "Depth scaling of the decoder",
        "why": "the decoder has one scale for objects of several sizes",
        "module": ("ScaleDial", "decoder", [0, 1]),
        "idea": "each decoder stage has a learnt gain per channel that starts at one",
    },
]
MORE: tuple[tuple[Any, ...], ...] = (
    *(("SliceMixer", "decoder", [0]), ("TextureBank", "encoder", [1]), ("ShapePrior", "skip", [1])),
    *(("ContrastNorm", "encoder", [0, 1]), ("PhaseFilter", "skip", [0, 1])),
    *(("RidgeFinder", "decoder", [1]), ("PoolShift", "bottleneck", [])),
    *(("HaloTrim", "skip", [0]), ("DriftLock", "encoder", [2]), ("CoilGain", "encoder", [0, 2])),
    *(("GrainSift", "decoder", [0]), ("VeinTrace", "skip", [1]), ("CoreHold", "bottleneck", [])),
)
IDEAS += [
    {
        "title": f"{name} {' '.join(part * 3 for part in (name[:4], name[4:]))}",
        "why": f"what {name} sees is lost {name.lower()}",
        "module": (name, *place),
        "idea": f"the {name.lower()} keeps {name[::-1].lower()} apart",
    }
    for name, *place in MORE
]
STARTS = {
    "Name the open challenges": "challenges",
    "Propose one network": "propose",
    "Combine two networks": "cross",
    "Judge the proposals": "assess",
    "Write network.py": "code",
    "Change network.py": "edit",
    "network.py below failed": "repair",
    "The network below did not do better": "diagnose",
    "The network below is the best": "audit",
    "Say why the lessons below": "reflect",
    "Write one section of a manuscript": "write",
    "This is a test of the form": "probe",
}
CATEGORIES = ("architecture", "capacity", "optimisation", "code", "gap")
GATE = '''
class {name}(nn.Module):
    """A learnt gain per channel that starts at one."""

    def __init__(self, channels: int, dims: int) -> None:
        """Make the gain."""
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, *[1] * dims))

    def forward(self, x: Tensor) -> Tensor:
        """Scale."""
        return x * self.gain

'''


def purpose_of(body: dict[str, Any]) -> str:
    """Return which prompt a request holds."""
    text = body["messages"][1 if len(body["messages"]) > 1 else 0]["content"]
    return next(purpose for start, purpose in STARTS.items() if text.startswith(start))


def model(body: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to a request, by the prompt alone."""
    text = body["messages"][min(1, len(body["messages"]) - 1)]["content"]
    number = int(hashlib.sha256(text.encode()).hexdigest()[:6], 16)
    replies: dict[str, Callable[[], dict[str, Any]]] = {
        "probe": lambda: {"modality": "MR", "letters": 2},
        "challenges": challenges,
        "propose": lambda: propose(text, number),
        "cross": lambda: idea(IDEAS[number % len(IDEAS)], "Joined: "),
        "assess": lambda: assess(text),
        "code": lambda: code(text),
        "edit": lambda: edit(text, number),
        "repair": lambda: edit(text, number),
        "diagnose": lambda: diagnose(text),
        "audit": lambda: audit(text),
        "reflect": lambda: reflect(text),
        "write": lambda: write(text),
    }
    return replies[purpose_of(body)]()


def challenges() -> dict[str, Any]:
    """Return two challenges."""
    both = [
        {"title": "Blurred borders", "why": "Border voxels are wrong most often.", "evidence": []},
        {"title": "Small blocks", "why": "Small blocks are missed.", "evidence": []},
    ]
    return {"challenges": both}


def propose(text: str, number: int) -> dict[str, Any]:
    """Return the first idea that was not tried and not refused."""
    told = text.split("## Tried before")[1]
    fresh = [one for one in IDEAS if one["module"][0] not in told and one["title"] not in told]
    bent = next(i for i, word in enumerate(("inventive", "rigorous", "clinician")) if word in text)
    return idea((fresh or IDEAS)[bent % len(fresh or IDEAS)])


def idea(one: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return an idea in the form of a proposal."""
    name, position, stages = one["module"]
    place = {"position": position, "stages": stages}
    module = (
        {"component": name, **place, "reason": one["idea"]}
        if name.islower()
        else {"class_name": name, **place, "idea": one["idea"], "equations": "y = g x"}
    )
    return {
        "title": prefix + one["title"],
        "motivation": f"On this dataset {one['why']}. Therefore {one['idea']}.",
        "modules": [module],
        "integration": "It takes the features of its place and returns as many.",
        "expected_on": "Dice of the smallest objects",
        "expected_size": "small",
        "refutation": "no gain on small objects at the first rung",
        "cost": "same",
        "citations": ["oktay2018attention", "nowhere2099"],
    }


def assess(text: str) -> dict[str, Any]:
    """Grade each proposal."""
    count = len(re.findall(r"^### Proposal \d+", text, re.MULTILINE))
    grades = dict.fromkeys(
        ("coherence", "credibility", "testability", "novelty", "fit", "modularity"), 3
    )
    rows = [
        {"proposal": i, **grades, "fit": 1 + i % 5, "remark": "It is cheap to refute."}
        for i in range(1, count + 1)
    ]
    return {"grades": rows}


def material(text: str, name: str) -> str:
    """Return a section of material in a prompt."""
    return text.split(f'<material name="{name}">\n')[1].split("\n</material>")[0]


def with_class(source: str, name: str) -> str:
    """Return a network whose logits pass a module of a class."""
    head, mark, tail = source.partition("class Encoder(nn.Module):")
    made = head + GATE.format(name=name).lstrip("\n") + "\n" + mark + tail
    return made.replace(
        "        channels = in_channels\n",
        f"        self.{name.lower()} = {name}(in_channels, dims)\n        channels = in_channels\n",
        1,
    ).replace(
        "    def forward(self, x: Tensor) -> list[Tensor]:\n",
        f"    def forward(self, x: Tensor) -> list[Tensor]:\n        x = self.{name.lower()}(x)\n",
        1,
    )


def new_classes(text: str) -> list[str]:
    """Return the new classes that a proposal in a prompt names."""
    return re.findall(r"^- (\w+)@\S+ \(new class\)", text, re.MULTILINE)


def code(text: str) -> dict[str, Any]:
    """Write the scaffold with the new classes in it."""
    source = material(text, "scaffold")
    for name in new_classes(text):
        source = with_class(source, name)
    return {"note": "The new module scales the input.", "source": source}


def edit(text: str, number: int) -> dict[str, Any]:
    """Change one line of the file; a comment names the draw, a constant the change."""
    source = material(text, "source")
    line = "Spec = dict[str, Any]"
    mark = f"CHANGE_{number} = {number}"
    assert source.count(line) == 1
    return {
        "note": "One constant more.",
        "edits": [{"find": line, "replace": f"{mark}\n{line}"}],
        "source": "",
    }


def keys(text: str) -> list[str]:
    """Return the keys of the evidence in a prompt."""
    told = text.split("## Evidence")[1].split("\n## ")[0]
    return re.findall(r"^- ([\w.\-]+):", told, re.MULTILINE)


def diagnose(text: str) -> dict[str, Any]:
    """Return five suggestions on the first clue."""
    rows = [suggestion(category, keys(text)[0]) for category in CATEGORIES]
    return {"suggestions": rows}


def suggestion(category: str, key: str) -> dict[str, Any]:
    """Return one suggestion."""
    module = {"component": "blur_pool", "position": "downsample", "stages": [1], "reason": "calm"}
    return {
        "category": category,
        "text": f"Try what belongs to {category}.",
        "evidence": [key],
        "expected": "Dice of small blocks rises.",
        "modules": [module] if category == "architecture" else [],
    }


def audit(text: str) -> dict[str, Any]:
    """Return one part and the next step."""
    part = {"part": "the new module", "state": "simplified", "evidence": "one gain alone"}
    return {"parts": [part], "next": suggestion("gap", keys(text)[0])}


def reflect(text: str) -> dict[str, Any]:
    """Return one sentence on each lesson, which rests on its first trial."""
    rows = re.findall(r"^### (\S+)\n.*\nTrials: (\w+)", text, re.MULTILINE)
    said = "It keeps fine features apart from the background."
    return {
        "topics": [
            {"topic": topic, "sentences": [{"text": said, "trials": [trial]}]}
            for topic, trial in rows[:12]
        ]
    }


def write(text: str) -> dict[str, Any]:
    """Return a section with the claims that may be printed, and one of the facts."""
    told = text.split("## Claims\n")[1].split("\n## ")[0]
    claims = [f"[[claim:{name}]]" for name in re.findall(r"^- ([\w.-]+):", told, re.MULTILINE)]
    said = "The dataset is [[fact:dataset.name]], and it was split before anything was trained."
    return {"paragraphs": [*claims, said]}


def as_text(body: dict[str, Any]) -> str:
    """Return the reply as the server sends it."""
    return json.dumps(model(body))
