"""Tell a Prefect server what runs when: the work pool, its queues and the deployments that ``prefect.yaml`` describes.

``prefect deploy --all`` reads the same file, but with the FastAPI that Prefect 3.8 flows need it stops after the first deployment of a
work pool (its question for the pool's workers is refused with 422), and it makes no queues. Applying the file again changes what changed.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from data_catalog.errors import ConfigurationError

POOL_TYPE: Final = "process"
KNOWN: Final = frozenset(
    {"name", "description", "entrypoint", "work_pool", "parameters", "schedules", "concurrency_limit", "tags"}
)  # fmt: skip


def read_plan(path: Path) -> dict[str, Any]:
    """The file, checked.

    Raises:
        ConfigurationError: It cannot be read, or a deployment in it has a key that is not understood here or lacks one that is needed.
    """
    try:
        plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read as YAML: {error}.") from error
    if not isinstance(plan, dict) or not plan.get("deployments"):
        raise ConfigurationError(f"{path} has no deployments; the one in the project shows the form.")
    for number, one in enumerate(plan["deployments"]):
        named = one.get("name") or f"number {number + 1}"
        unknown = sorted(set(one) - KNOWN)
        if unknown:
            known = ", ".join(sorted(KNOWN))
            raise ConfigurationError(f"The deployment {named} in {path} has {', '.join(unknown)}; understood are {known}.")
        lacking = [key for key in ("name", "entrypoint", "work_pool") if not one.get(key)]
        if lacking:
            raise ConfigurationError(f"The deployment {named} in {path} lacks {', '.join(lacking)}.")
    return plan


def deploy(path: Path) -> dict[str, Any]:
    """Apply the file to the server of ``PREFECT_API_URL``.

    Args:
        path: Of ``prefect.yaml``.

    Returns:
        ``server``, ``pools``, ``queues`` and ``deployments`` (``flow/name``), as applied.

    Raises:
        ConfigurationError: The file cannot be used, a flow is not there, or the server does not answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.types.entrypoint import EntrypointType

    plan = read_plan(path)
    flows = [flow_of(one["entrypoint"], path) for one in plan["deployments"]]
    queues = (plan.get("definitions") or {}).get("queues") or {}
    pools = sorted({one["work_pool"]["name"] for one in plan["deployments"]})
    with get_client(sync_client=True) as client:
        if trouble := client.api_healthcheck():
            raise ConfigurationError(
                f"No Prefect server answers at {client.api_url}: {trouble}; start one with `prefect server start`, and set PREFECT_API_URL."
            )
        for pool in pools:
            _pool(client, pool)
            for name, limits in queues.items():
                _queue(client, pool, name, limits)
        made = []
        for flow, one in zip(flows, plan["deployments"], strict=True):
            limit = one.get("concurrency_limit")
            deployment = flow.to_deployment(
                one["name"], description=one.get("description"), parameters=one.get("parameters") or {}, tags=one.get("tags"),
                schedules=[_schedule(found) for found in one.get("schedules") or []],
                concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
                work_pool_name=one["work_pool"]["name"], work_queue_name=one["work_pool"].get("work_queue_name"),
                entrypoint_type=EntrypointType.MODULE_PATH, enforce_parameter_schema=False,
            )  # fmt: skip
            deployment.apply()
            made.append(deployment.full_name)
        return {"server": str(client.api_url), "pools": pools, "queues": sorted(queues), "deployments": made}


def flow_of(entrypoint: str, path: Path) -> Any:
    """The flow of ``module.name``.

    Raises:
        ConfigurationError: There is none.
    """
    module, _, name = entrypoint.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"The entrypoint {entrypoint} in {path} is no flow: {error}.") from error


def _schedule(found: dict[str, Any]) -> Any:
    from prefect.client.schemas.schedules import CronSchedule

    return CronSchedule(**found)


def _pool(client: Any, name: str) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=POOL_TYPE))


def _queue(client: Any, pool: str, name: str, limits: dict[str, Any]) -> None:
    from prefect.exceptions import ObjectNotFound

    try:
        queue = client.read_work_queue_by_name(name, work_pool_name=pool)
    except ObjectNotFound:
        client.create_work_queue(name, work_pool_name=pool, **limits)
    else:
        client.update_work_queue(queue.id, **limits)
