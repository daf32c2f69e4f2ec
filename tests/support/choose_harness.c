/* SPDX-License-Identifier: GPL-2.0 */
/*
 * After the sources: programs that run decision code for BPF_PROG_TEST_RUN. Each reads its case from the packet and
 * writes what came of it behind the case, or counts it. tests/support/choose_harness.py packs and unpacks.
 */
#define KM_CASE_AT 16	/* a packet begins with an Ethernet header */

struct km_case {
	struct km_destination destination;
	__u32 numbers[KM_CASE_DRAWS];
};

/* Decide once. Returns how many draws that took, or -1 when the packet holds no case. */
int km_run_choose(struct __sk_buff *skb)
{
	struct km_destination dst = {};
	struct km_choice choice = {};
	struct km_draws *draws;
	int zero = 0;

	draws = km_draws.lookup(&zero);
	if (!draws || bpf_skb_load_bytes(skb, KM_CASE_AT, &dst, sizeof(dst)) ||
	    bpf_skb_load_bytes(skb, KM_CASE_AT + offsetof(struct km_case, numbers), draws->numbers,
			       sizeof(draws->numbers)))
		return -1;
	draws->taken = 0;
	km_choose(&dst, &choice);
	if (bpf_skb_store_bytes(skb, KM_CASE_AT + sizeof(struct km_case), &choice, sizeof(choice), 0))
		return -1;
	return draws->taken;
}

struct km_seal_case {
	__u32 key[5];
	__u32 action;
	__u64 target;
};

/* Seal `key` whole, and its first two words, which is as much as a cluster's key has. */
int km_run_seal(struct __sk_buff *skb)
{
	struct km_seal_case given;
	__u64 seals[2];

	if (bpf_skb_load_bytes(skb, KM_CASE_AT, &given, sizeof(given)))
		return -1;
	seals[0] = km_mix(km_mix(km_mix_key(given.key, 5), given.target), given.action);
	seals[1] = km_mix(km_mix(km_mix_key(given.key, 2), given.target), given.action);
	return bpf_skb_store_bytes(skb, KM_CASE_AT + sizeof(given), seals, sizeof(seals), 0);
}

/* A frontend that is replaced all the time, and the two targets that it may have. */
struct km_race_case {
	struct km_frontend_key key;
	__u32 pad;
	__u64 targets[2];
};

enum { KM_RACE_FIRST, KM_RACE_SECOND, KM_RACE_STRAY, KM_RACE_MISSING, KM_RACE_BROKEN, KM_RACE_COUNT };

BPF_ARRAY(km_race, __u64, KM_RACE_COUNT);

static __always_inline int km_judge(struct km_race_case *race)
{
	struct km_way way = {};

	switch (km_find_frontend(&race->key, &way)) {
	case KM_CELL_NONE:
		return KM_RACE_MISSING;
	case KM_CELL_BROKEN:
		return KM_RACE_BROKEN;
	}
	if (way.action != KM_A_CLUSTER)
		return KM_RACE_STRAY;
	if (way.target == race->targets[0])
		return KM_RACE_FIRST;
	return way.target == race->targets[1] ? KM_RACE_SECOND : KM_RACE_STRAY;
}

/* Find the frontend once and count what came of it; to be repeated. */
int km_run_race(struct __sk_buff *skb)
{
	struct km_race_case race;
	__u64 *counter;
	int outcome;

	if (bpf_skb_load_bytes(skb, KM_CASE_AT, &race, sizeof(race)))
		return -1;
	outcome = km_judge(&race);
	counter = km_race.lookup(&outcome);
	if (counter)
		*counter += 1;
	return 0;
}
