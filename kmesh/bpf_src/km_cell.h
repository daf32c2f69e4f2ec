/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading a cell: copy, check the seal, look again. See kmesh/records/seal.py
 * for what the seal defends against.
 *
 * What is not there is looked for twice: the kernel replaces an element by
 * adding the new one at the head of the bucket before it removes the old one,
 * so a walk that began before and ends after meets neither. One replacement
 * can hide a key from one walk, not from the next.
 */
#define KM_LOAD(x) (*(const volatile typeof(x) *)&(x))

/* Where a decision stands: KM_A_* and what it leads to. */
struct km_way {
	__u64 target;
	__u32 action;
};

enum { KM_CELL_NONE, KM_CELL_FOUND, KM_CELL_BROKEN };

static __always_inline __u64 km_mix(__u64 h, __u64 word)
{
	h = (h ^ word) * KM_SEAL_MULTIPLIER;
	return h ^ (h >> 32);
}

/* Mix a key of `words` 32-bit words, a compile time constant. */
static __always_inline __u64 km_mix_key(const void *key, int words)
{
	const __u32 *word = key;
	__u64 h = KM_SEAL_SEED;
	int i;

#pragma unroll
	for (i = 0; i < words; i++)
		h = km_mix(h, word[i]);
	return h;
}

static __always_inline int km_read_cell(void *map, void *key, int words, struct km_way *way)
{
	__u64 key_mix = km_mix_key(key, words);
	bool was_missed = false;
	int i;

#pragma unroll
	for (i = 0; i < KM_MAX_SEAL_TRIES; i++) {
		struct km_cell *cell = bpf_map_lookup_elem(map, key);
		__u64 seal;

		if (!cell) {
			if (was_missed)
				return KM_CELL_NONE;
			was_missed = true;
			continue;
		}
		way->target = KM_LOAD(cell->target);
		way->action = KM_LOAD(cell->action);
		seal = KM_LOAD(cell->seal);
		if (seal == km_mix(km_mix(key_mix, way->target), way->action))
			return KM_CELL_FOUND;
	}
	return KM_CELL_BROKEN;
}
