"""How much Hypothesis tries: ``default`` is for every run, ``--hypothesis-profile=thorough`` for a night."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A slow machine is no failure: what a law may cost is said in examples, never in milliseconds.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000, stateful_step_count=100)
settings.load_profile("default")
