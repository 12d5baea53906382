"""What trains candidates and remembers them, for one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasproxy.core.devices import DeviceChoice
from nasproxy.training.coordinator import Coordinator
from nasproxy.training.crew import Crew
from nasproxy.training.ledger import Ledger


@dataclass(frozen=True)
class Session:
    """A run that is open, as :func:`~nasproxy.search.run_folder.open_session` opens it.

    Args:
        run: the run folder.
        ledger: the table of all trainings; what is in it is not trained again.
        crew: the workers that train.
        choice: the device that they train on.
    """

    run: Path
    ledger: Ledger
    crew: Crew
    choice: DeviceChoice

    def coordinator(self) -> Coordinator:
        """Hands jobs to the crew and keeps the results in the ledger."""
        return Coordinator(self.crew, self.ledger)
