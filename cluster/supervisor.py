"""The process that a local cluster of several nodes belongs to: `python -m cluster.supervisor SETTINGS`.

It starts one real raylet a node, with its own object store, agents and workers, and ends them all when it
gets SIGTERM. When it is killed, the kernel ends its children. Everything listens on the loopback address.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

NODE_VARIABLE = "ARSVD_LOCAL_NODE"  # marks a node's processes: the cluster's id, a slash, the node's number


def _start(settings: dict[str, Any]) -> dict[str, Any]:
    """Start every node.

    Args:
        settings: id, nodes, cpus_per_node, object_store_bytes, dashboard_port (None for no dashboard),
            scratch.

    Returns:
        What `cluster.multinode` waits for: the address.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for number in range(settings["nodes"]):
        node: dict[str, Any] = {
            "num_cpus": settings["cpus_per_node"],
            "num_gpus": 0,
            "object_store_memory": settings["object_store_bytes"],
            # sessions of their own: nodes that share one share the packages of submitted jobs as well
            "temp_dir": str(Path(settings["scratch"], str(number))),
            "env_vars": {NODE_VARIABLE: f"{settings['id']}/{number}"},
            "include_log_monitor": False,
            "dashboard_agent_listen_port": 0,  # the head's default is one port for all clusters of a machine
        }
        if number == 0:
            port = settings["dashboard_port"]
            node |= {
                "include_dashboard": port is not None,
                "dashboard_host": "127.0.0.1",
                "dashboard_port": port,
            }
        cluster.add_node(**node)
        # A job asks there which cluster it belongs to. Where several run on a machine Ray would take any.
        Path(node["temp_dir"], "ray_current_cluster").write_text(cluster.address)
    return {"address": cluster.address}


def _main() -> None:
    scratch = Path(sys.argv[1])
    settings = json.loads((scratch / "settings.json").read_text())
    # a shell that starts commands in the background has them ignore Ctrl-C, and jobs would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ready = _start(settings)
    draft = scratch / "ready.tmp"
    draft.write_text(json.dumps(ready))
    os.replace(draft, scratch / "ready.json")
    # Ray's own handler of SIGTERM, set by the nodes, ends their processes and then this one
    while True:
        signal.pause()


if __name__ == "__main__":
    _main()
