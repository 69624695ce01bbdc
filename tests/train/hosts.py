"""One of two hosts that share a sweep: FOLDER COORDINATOR NUMBER; with `idle`, the second one does nothing."""

import os
import sys
import time
from pathlib import Path

import jax
from small import ALL, swept

from fnn.base.errors import InputError
from fnn.train import blocks

folder, where, number, idle = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), "idle" in sys.argv
jax.distributed.initialize(where, 2, number)
jax.local_devices()  # all hosts start their devices together
if idle:
    blocks.TIMEOUT = 2.0
    time.sleep(600 * number)
try:
    swept(**ALL, keep=folder).to_netcdf(folder / f"found-{number}.nc", engine="h5netcdf")
except InputError as error:
    print(error, flush=True)
    os._exit(0)  # at its usual end JAX waits for the other host
