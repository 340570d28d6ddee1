"""The plan: recommended training settings, each with its value, interval, reason and formula."""

from auditor.plan.settings import Plan, Setting

__all__ = ["Plan", "Setting"]
