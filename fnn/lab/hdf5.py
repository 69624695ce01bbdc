"""A check of HDF5 files before they are read: all data are in the file, and no more than its size allows.

HDF5 can take data from other files of the machine, by external raw storage, external links and virtual data sets, and
can claim arrays of any size that were never written. A file from elsewhere could bring any readable file into a report
that way, or fill the memory.
"""

from pathlib import Path

import h5py

from fnn.base.errors import require

DENSEST = 1000
"""The most bytes of data per byte of a file that is read. Deflate, HDF5's densest filter, could make it 1032."""


def check_contained(path: Path) -> None:
    """Raise `InputError` where reading the file would read other files, or more data than a file of its size can hold.

    Raises what h5py raises where it is not an HDF5 file.
    """
    foreign = f"{path} is not read: it takes data from other files"
    size = 0
    with h5py.File(path, "r") as file:
        pending: list[h5py.Group] = [file]
        seen = set()
        while pending:
            group = pending.pop()
            for name in group:
                require(isinstance(group.get(name, getlink=True), h5py.HardLink), f"{foreign} (link {name!r:.60}).")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr  # pyright: ignore[reportAttributeAccessIssue]
                if address in seen:
                    continue
                seen.add(address)
                if isinstance(item, h5py.Group):
                    pending.append(item)
                elif isinstance(item, h5py.Dataset):
                    where = f"{foreign} (variable {name!r:.60})."
                    require(not item.is_virtual and not item.external, where)  # before its shape, which opens them
                    size += item.nbytes
    most = DENSEST * path.stat().st_size
    require(
        size <= most, f"{path} is not read: it claims to hold {size / 1e6:,.0f} MB, more than a file of its size can."
    )
