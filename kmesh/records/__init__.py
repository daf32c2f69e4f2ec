"""The one definition of every kernel record, limit, action and reason.

`layout` describes the records, packs and unpacks them, `constants` has the numbers, `seal` and `digest` give the
checks and the ids in them, and `header` writes `bpf_src/km_records.h` from all of it.
"""
