"""Augmented views of an item: what is drawn, and what is done to pixels and samples. No torch, no files, no models.

Everything is a pure function of a plan, and a plan one of (seed, sample, index), so that decode workers may compute
views in any order. Augmented views are for the train split only; who calls sees to that.
"""
