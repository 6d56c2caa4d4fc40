"""Requests and bytes of one region, counted by the server: ``python benchmarks/count_requests.py``.

An area of 85 km² by eight months by four bands at 30 ms a request. At most one header a file
and one request per row of blocks; at most 1.05 times the bytes of headers and blocks touched.
Exits with 1 where a limit is passed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import _data  # noqa: E402 - after the path of the checkout is known
from _cases import Network, Request, bound_of  # noqa: E402
from _environments import Environments  # noqa: E402
from _harness import Bench  # noqa: E402
from _server import Server  # noqa: E402
from contenders import CONTENDERS  # noqa: E402


def main() -> int:
    """Read once and print."""
    root = _data.build_archive(_data.cache_folder())
    request, network = Request(), Network()
    bound = bound_of(request, root)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, Server(root) as server:
        bench = Bench(
            folder=_data.cache_folder(),
            root=root,
            scratch=Path(scratch),
            server=server,
            nginx=None,
            environments=Environments(_data.cache_folder()),
            repeat=1,
            quick=True,
        )
        job = bench.job(request, server)
        job["inventory"] = bench.inventory(job)
        server.shape(latency_s=network.latency_s, mbit=network.mbit)
        sample = bench.measure(CONTENDERS["s2l3a_xr"], job, server)
    limit = bound.files + bound.rows
    share = sample.sent_bytes / bound.total_bytes
    sys.stdout.write(
        f"85 km² x 8 months x 4 bands, {network.latency_s * 1000:.0f} ms a request\n"
        f"requests for .tif  {sample.tif_requests} (limit {limit}: {bound.files} headers + "
        f"{bound.rows} rows of blocks)\n"
        f"bytes              {sample.sent_bytes / 1e6:.2f} MB = {share:.4f} x headers + blocks "
        f"touched (limit 1.05 x {bound.total_bytes / 1e6:.2f} MB)\n"
        f"fetched twice      {sample.repeated_bytes} bytes\n"
        f"wall               {sample.wall_s:.2f} s\n"
    )
    return int(sample.tif_requests > limit or share > 1.05)


if __name__ == "__main__":
    sys.exit(main())
