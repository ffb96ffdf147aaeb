"""Recipes: files that say how a model is taught to edit, from demonstrations to evaluation.

A recipe is a TOML file; those beside this module are found by name. What it holds are values
(`values`) that need no torch to be read (`files`).
"""

from redpencil.recipes.files import names, read
from redpencil.recipes.values import (
    Credit,
    Dimensions,
    EvalSection,
    GrpoRecipe,
    GrpoSection,
    Lora,
    Recipe,
    SftRecipe,
    Validation,
    Workload,
)

__all__ = [
    "Credit",
    "Dimensions",
    "EvalSection",
    "GrpoRecipe",
    "GrpoSection",
    "Lora",
    "Recipe",
    "SftRecipe",
    "Validation",
    "Workload",
    "names",
    "read",
]
