"""Studies: experiments on retrievers, each with frozen settings, a typed result and a report.

Example:
    >>> from tilefold.studies.probe import ProbeSettings, run_probe
    >>> settings = ProbeSettings(world="tiny", candidates=[2], epochs=5)
    >>> result = run_probe(settings)  # doctest: +SKIP
    >>> result.discrimination[0].difference.mean  # doctest: +SKIP
    0.12
"""
