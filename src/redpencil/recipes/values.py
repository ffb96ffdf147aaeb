"""What a recipe is made of. A default that the paper gives is the paper's."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from redpencil.corrupt import Kinds
from redpencil.dataset import Count, DemosRecipe
from redpencil.env import Decoding, EditRules, Method
from redpencil.types import Value

Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Credit = Literal["paper", "outcome", "returns", "page-groups"]
"""The rules of `redpencil.train.credit`."""


class Lora(Value, frozen=True):
    """The adapter's shape: rank 16 on all linear layers is the paper's."""

    rank: Count = 16
    alpha: Count = 32
    dropout: Share = 0.0


class Validation(Value, frozen=True):
    """What a model in training is to mend, again and again, though it is not trained on it."""

    tasks: str = "builtin:validation"
    every: Count = 50
    """Steps between validations, each of which writes a checkpoint too."""
    patience: Count = 4
    """So many validations in a row that are no better than the best end the training."""
    limit: Count = 32
    """At most so many programs."""
    corruptions: tuple[Count, Count] = (1, 3)
    kinds: Kinds = "all"
    rules: EditRules = EditRules(max_turns=6, idle_turns=2)


class SftRecipe(Value, frozen=True):
    """How to fine-tune on demonstrations."""

    model: str = "smollm2-135m"
    lora: Lora = msgspec.field(default_factory=Lora)
    learning_rate: Amount = 8e-4
    warmup_share: Share = 0.08
    """Share of the steps over which the rate rises; it then falls to nought along a cosine."""
    epochs: Positive = 1.0
    batch: Count = 8
    """Traces a step, of all processes together."""
    context: Count = 2048
    """Traces with more tokens are left out (paper: 2048)."""
    checkpoint_every: Count = 25
    """Steps between checkpoints."""
    validation: Validation | None = None
    """With it the adapter that solves most is kept, not the last, and training may end early."""
    seed: int = 0


class GrpoRecipe(Value, frozen=True):
    """How to train by reinforcement; the defaults that the paper gives are the paper's."""

    model: str = "smollm2-135m"
    method: Method = "coe"
    """How programs are repaired: by editing or by one of the baselines."""
    steps: Count = 100
    tasks_per_step: Count = 4
    """Of all processes together."""
    group: Annotated[int, msgspec.Meta(ge=2)] = 4
    """Traces of each task (paper)."""
    learning_rate: Amount = 1e-4
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Steps in which the rate rises from 0: Adam's first are as long whatever the gradient."""
    decay_steps: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The last steps, in which the rate falls to 0 along a cosine."""
    kl: Amount = 0.01
    """Weight of the divergence from the SFT policy (paper)."""
    clip: Amount = 0.2
    """How far a token's probability ratio counts, either way (paper)."""
    credit: Credit = "paper"
    """How a group's rewards become advantages."""
    rest_after: Annotated[int, msgspec.Meta(ge=0)] = 2
    """So many groups that solved a task never, or always and alike, let it rest; 0: none rests."""
    rest_passes: Count = 2
    """How long it rests, in passes over all tasks."""
    temperature: Positive = 1.0
    decoding: Decoding = "free"
    """Which commands can be sampled."""
    vllm: Literal["off", "colocate", "server"] = "off"
    """Sample by vLLM on a GPU, in the trainer's own process or in a server of TRL's."""
    context: Count = 2048
    traces_per_backward: Count = 4
    """Most traces whose gradients are computed at once by a process; less takes less memory."""
    checkpoint_every: Count = 2
    validation: Validation | None = None
    """With it the adapter that solves most is kept, not the last, and training may end early."""
    rules: EditRules = msgspec.field(default_factory=EditRules)
    seed: int = 0


class GrpoSection(GrpoRecipe, frozen=True):
    """GRPO, and the broken programs that it is done on."""

    tasks: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("builtin:train",)
    """Sources; of several, programs are mixed."""
    weights: tuple[Positive, ...] = ()
    """How often each of several sources is drawn from; where none are given, all alike."""
    variants: Count = 1
    """Broken programs of each task that comes without one."""
    corruptions: tuple[Count, Count] = (1, 3)
    kinds: Kinds = "all"
    renamed: Share = 0.0
    """The chance that a solution gets other local names before it is broken."""
    intact: Share = 0.0
    """The chance that a program is not broken after all, so that EXIT stays learned."""


class EvalSection(Value, frozen=True):
    """What is evaluated, and how."""

    tasks: str = "builtin:test"
    variants: Count = 1
    """Broken programs of each task that comes without one."""
    corruptions: tuple[Count, Count] = (1, 3)
    kinds: Kinds = "all"
    limit: Count | None = None
    """At most so many programs."""
    samples: Count = 1
    temperature: Amount = 0.0
    decoding: Decoding = "free"
    rules: EditRules = msgspec.field(default_factory=EditRules)


class Dimensions(Value, frozen=True):
    """A decoder's sizes, as its `config.json` has them: gated MLP, grouped heads, RMS norms."""

    layers: Count
    hidden: Count
    intermediate: Count
    heads: Count
    kv_heads: Count
    head_size: Count
    vocabulary: Count
    tied: bool
    """Whether the head's weights are the embedding's."""
    qkv_bias: bool = False


class Workload(Value, frozen=True):
    """How much there is to read and write: what the cost is reckoned with, beside the sizes."""

    demos: Count
    """Demonstrations fine-tuned on."""
    demo_turns: Positive
    """Mean turns of a demonstration."""
    turns: Positive
    """Mean turns of a trace that the model samples."""
    first_tokens: Positive
    """Mean tokens of the first observation: prompt, tests, page, feedback."""
    later_tokens: Positive
    """Mean tokens of each later observation."""
    action_tokens: Positive
    """Mean tokens of an action."""
    eval_programs: Count
    grpo_turns: Positive | None = None
    """`turns` in reinforcement, where its rules end traces sooner."""


class Recipe(Value, frozen=True):
    """A whole pipeline for one model."""

    model: str
    """Hugging Face id, folder, or `smollm2-135m`; that of all sections."""
    about: str = ""
    seed: int = 0
    """That of all sections."""
    demos: DemosRecipe = msgspec.field(default_factory=DemosRecipe)
    sft: SftRecipe = msgspec.field(default_factory=SftRecipe)
    grpo: GrpoSection = msgspec.field(default_factory=GrpoSection)
    eval: EvalSection = msgspec.field(default_factory=EvalSection)
    dimensions: Dimensions | None = None
    workload: Workload | None = None

    def seeded(self, seed: int) -> Recipe:
        """The same with another seed."""
        return msgspec.structs.replace(
            self,
            seed=seed,
            sft=msgspec.structs.replace(self.sft, seed=seed),
            grpo=msgspec.structs.replace(self.grpo, seed=seed),
        )
