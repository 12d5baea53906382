"""Neural architecture search on a tiny synthetic proxy set, and a check of whether the proxy can be believed.

The steps of the command line as functions; ``help(nasproxy.build_proxy)`` and so on tell the rest::

    import nasproxy as nas

    dataset = nas.load_dataset("digits")
    cpu = nas.choose_device("cpu")
    proxy = nas.build_proxy(dataset, nas.CondenseConfig(ipc=1, outer_steps=20, width=32), choice=cpu)
    nas.save_proxy(proxy, Path("digits.safetensors"))

Names are loaded on first use, because torch alone takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ComputeConfig": "config",
    "CondenseConfig": "config",
    "SearchConfig": "config",
    "ValidateConfig": "config",
    "Recipe": "config",
    "NasproxyError": "core.errors",
    "choose_device": "core.devices",
    "Dataset": "data",
    "LabeledImages": "data",
    "load_dataset": "data",
    "build_proxy": "condense.build",
    "ProxySet": "data.proxy_set",
    "load_proxy": "data.proxy_set",
    "save_proxy": "data.proxy_set",
    "Candidate": "spaces",
    "SearchSpace": "spaces",
    "inspect_space": "spaces",
    "load_space": "spaces",
    "Evaluation": "training.results",
    "Ledger": "training.ledger",
    "proxy_task": "scores.proxy",
    "make_task": "scores.registry",
    "make_objective": "search.objective",
    "hire": "training.crew",
    "Session": "training.session",
    "open_session": "search.open_session",
    "run_search": "search.loop",
    "search_by_compute": "search.compute",
    "validate": "validation.validate",
    "CorrelationReport": "report.data",
    "write_report": "report.page",
}

__all__ = [
    "Candidate",
    "ComputeConfig",
    "CondenseConfig",
    "CorrelationReport",
    "Dataset",
    "Evaluation",
    "LabeledImages",
    "Ledger",
    "NasproxyError",
    "ProxySet",
    "Recipe",
    "SearchConfig",
    "SearchSpace",
    "Session",
    "ValidateConfig",
    "build_proxy",
    "choose_device",
    "hire",
    "inspect_space",
    "load_dataset",
    "load_proxy",
    "load_space",
    "make_objective",
    "make_task",
    "open_session",
    "proxy_task",
    "run_search",
    "save_proxy",
    "search_by_compute",
    "validate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nasproxy' has no attribute '{name}'")
    return getattr(import_module(f"nasproxy.{_HOMES[name]}"), name)
