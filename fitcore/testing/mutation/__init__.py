"""Would anybody notice? Breaks code one operator at a time, and tells which tests do.

A mutant is a module with one small change in a function: ``<`` for ``<=``, a dropped statement, a constant moved by
one. Tests that fail kill it; one that survives shows a line that nothing checks, or a change that makes no difference,
which ``reports/mutants.toml`` then explains. Run ``python -m fitcore.testing.mutation --help``.

Every mutant runs in a forked process, which has torch imported and the tests collected: what costs is the tests alone,
and of those only the ones that reach the changed statement run, the cheapest first, until one fails. So it needs
``fork``, as on Linux and macOS. Class bodies, decorators, constants of modules, and what tests compute while they are
imported are left as they are.

Source: R. A. DeMillo, R. J. Lipton, F. G. Sayward, "Hints on test data selection", Computer 11(4), 1978.
"""
