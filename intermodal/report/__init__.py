"""The report of a run: one HTML file that holds everything and loads nothing."""

from __future__ import annotations

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.report.page import REPORT, render, write_report
from intermodal.spec.types import Pipeline

__all__ = ["REPORT", "render", "report_end", "write_report"]


def report_end(state: StateFolder, run: str, pipeline: Pipeline) -> str | None:
    """Write the report of a run that has just ended; return why it could not be written, None if it was. Never raises."""
    try:
        database = Database(state.database)
        try:
            write_report(database, state, run, pipeline)
        finally:
            database.close()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a page, the run's own outcome stands; the caller says so
        return f"the report could not be written: {type(error).__name__}: {' '.join(str(error).split())}"
    return None
