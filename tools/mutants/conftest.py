"""Few examples of each law and no shrinking: a mutant is noticed or not, nobody reads how."""

from hypothesis import Phase, settings

settings.register_profile(
    "mutants",
    max_examples=25,
    phases=[Phase.generate],
    derandomize=True,
    deadline=None,
    database=None,
)
