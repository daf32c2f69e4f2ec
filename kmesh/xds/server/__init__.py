"""The embedded ADS server: resources from files, to any number of xDS clients, over both variants of ADS.

    config_dir  files -> Catalog, and every change of them        any_types, documents: types and text
    order       whose turn it is on a stream: make before break   exchange: one response and its answer
    sotw, delta one stream of each variant, sans-IO
    serve       sockets and tasks (grpclib)

In a process of its own: `python -m kmesh.xds.server --help`. Inside another:

    directory = ConfigDir(path)
    async with AdsServer(directory.read(), HostAddress("127.0.0.1", 0)) as server, asyncio.TaskGroup() as tasks:
        tasks.create_task(follow(directory, server.publish))
        ...  # clients connect to server.address
"""

from kmesh.xds.server.catalog import Catalog, Resource
from kmesh.xds.server.config_dir import ConfigDir, follow
from kmesh.xds.server.serve import AdsServer

__all__ = ["AdsServer", "Catalog", "ConfigDir", "Resource", "follow"]
