"""A teacher's outputs on disk: written once, resumable, checked, and read as a teacher."""

from limbeck.store.columns import Column as Column
from limbeck.store.decoding import decode as decode
from limbeck.store.encoding import encode as encode, stacked as stacked
from limbeck.store.fingerprint import (
    DataFingerprint as DataFingerprint,
    TeacherFingerprint as TeacherFingerprint,
    data_fingerprint as data_fingerprint,
    teacher_fingerprint as teacher_fingerprint,
)
from limbeck.store.group import (
    StoreGroup as StoreGroup,
    is_store as is_store,
    open_store as open_store,
)
from limbeck.store.kinds import Keep as Keep
from limbeck.store.manifest import Manifest as Manifest
from limbeck.store.plan import Fingerprints as Fingerprints, Plan as Plan, Shard as Shard
from limbeck.store.reader import TeacherStore as TeacherStore
from limbeck.store.sizes import bytes_per_row as bytes_per_row
from limbeck.store.transform import (
    TransformFingerprint as TransformFingerprint,
    transform_fingerprint as transform_fingerprint,
)
from limbeck.store.verifying import Fault as Fault, verify as verify
from limbeck.store.writer import StoreWriter as StoreWriter


__all__ = [
    "Column",
    "DataFingerprint",
    "Fault",
    "Fingerprints",
    "Keep",
    "Manifest",
    "Plan",
    "Shard",
    "StoreGroup",
    "StoreWriter",
    "TeacherFingerprint",
    "TeacherStore",
    "TransformFingerprint",
    "bytes_per_row",
    "data_fingerprint",
    "decode",
    "encode",
    "is_store",
    "open_store",
    "stacked",
    "teacher_fingerprint",
    "transform_fingerprint",
    "verify",
]
