"""The study as pictures: Optuna's own plotly figures on one page that loads nothing."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna import visualization
from optuna.trial import TrialState

if TYPE_CHECKING:
    from components.hpo.search import Outcome
    from components.hpo.settings import Search

_STYLE = "body{font-family:system-ui,sans-serif;margin:1rem}h2{font-size:1.1rem;margin:1.5rem 0 0}p{color:#555}"


def write_plots(path: Path, outcome: Outcome, search: Search) -> None:
    """Write the page: history, importances, parallel coordinates, intermediate values; of two objectives the Pareto front."""
    from plotly.offline import get_plotlyjs

    study = optuna.create_study(
        directions=outcome.study.directions
    )  # in memory: a figure reads all trials again and again
    study.add_trials(outcome.trials)
    parts = []
    for title, draw in _figures(study, search):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # experimental, and the like
                picture = draw().to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
        except (ValueError, RuntimeError) as error:
            # Importances of trials that all have the same value, say: the reason is what there is to show.
            picture = f"<p>{html.escape(str(error))}</p>"
        parts.append(f"<h2>{title}</h2>\n{picture}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Study</title>\n'
        f"<style>{_STYLE}</style>\n<script>{get_plotlyjs()}</script></head>\n"
        f"<body>\n<h1>Study {outcome.identity}</h1>\n" + "\n".join(parts) + "\n</body></html>\n",
        encoding="utf-8",
    )


def _figures(study: optuna.Study, search: Search) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what can be drawn of the study: its title, and how."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    names = ["macro-F1", "latency (ms)"][: len(search.objectives)]
    several = len(complete) > 1 and any(trial.params for trial in complete)
    if len(names) > 1:
        yield "Pareto front", lambda: visualization.plot_pareto_front(study, target_names=names)
    for number, name in enumerate(names):
        target: dict[str, Any] = {"target_name": name}
        if len(names) > 1:
            target["target"] = lambda trial, number=number: trial.values[number]
        yield f"History of {name}", lambda target=target: visualization.plot_optimization_history(study, **target)
        if several:
            yield (
                f"Importances for {name}",
                lambda target=target: visualization.plot_param_importances(study, **target),
            )
            yield (
                f"Parallel coordinates of {name}",
                lambda target=target: visualization.plot_parallel_coordinate(study, **target),
            )
    if len(names) == 1:
        yield "Intermediate values", lambda: visualization.plot_intermediate_values(study)
