"""Test vectors: stores with one defect each, and what a reader must say of them.

One row a vector.  Each is made from a store of tests/golden, all of which the program made, by a function that gets
a Forger of a copy.  kind is the class of failure of keyfs_reader.py; program is what keyfs check must make of it,
where that is not the same:

    a class             the program sees another thing first, or sees nothing (success)
    None                the program is not asked

The rows below "needs the keys" are mistakes that only the program itself could make: it may trust what it sealed.
"""

from vectors_file import FILES, INDEXES, LOGS, ROLLBACKS, SCHEMAS
from vectors_keys import BUNDLES, DATA_KEYS, HEADERS, SLOTS, SUCCESS
from vectors_rows import FORGED, ROWS

VECTORS = [
    *SUCCESS,
    *SLOTS,
    *BUNDLES,
    *HEADERS,
    *DATA_KEYS,
    *ROWS,
    *FORGED,
    *LOGS,
    *ROLLBACKS,
    *SCHEMAS,
    *INDEXES,
    *FILES,
]
