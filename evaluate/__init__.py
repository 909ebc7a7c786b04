"""Scores to knowledge: metrics, intervals, figures, reports, and the verbs that need both stages."""
