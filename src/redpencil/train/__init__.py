"""Training: supervised fine-tuning on demonstrations, then GRPO with rewards per turn.

The trainers are TRL's; ours are the tokens they train on (`tokens`), the head that scores only
what is asked for (`head`), the credit given to each token (`credit`), which tasks are worth
sampling (`curriculum`), what is counted of their traces (`metrics`), and the rollouts.
"""

ADAPTER = "adapter"
"""The folder, in that of a training, which appears when the training is done."""
METRICS = "metrics.jsonl"
"""The file, in the same folder, to which each step adds a line."""
