/* SPDX-License-Identifier: GPL-2.0 */
/*
 * After the sources: the rungs below a connect(), for BPF_PROG_TEST_RUN. Each does what the one before it does, and
 * one thing more. benchmarks/ladder.py writes the case, a struct km_destination, behind the Ethernet header.
 */
#define KM_CASE_AT 16	/* a packet begins with an Ethernet header */

BPF_HASH(km_rungs, struct km_frontend_key, __u64, 1024);

int km_rung_empty(struct __sk_buff *skb)
{
	return 0;
}

/* Take the case from the packet: what the harness itself costs. */
int km_rung_case(struct __sk_buff *skb)
{
	struct km_destination dst = {};

	return bpf_skb_load_bytes(skb, KM_CASE_AT, &dst, sizeof(dst));
}

/* One lookup in a hash of as large a key as a frontend's. */
int km_rung_lookup(struct __sk_buff *skb)
{
	struct km_destination dst = {};

	if (bpf_skb_load_bytes(skb, KM_CASE_AT, &dst, sizeof(dst)))
		return -1;
	return km_rungs.lookup(&dst.key) ? 0 : -1;
}

/* The whole decision. Returns its reason. */
int km_rung_choose(struct __sk_buff *skb)
{
	struct km_destination dst = {};
	struct km_choice choice = {};

	if (bpf_skb_load_bytes(skb, KM_CASE_AT, &dst, sizeof(dst)))
		return -1;
	km_choose(&dst, &choice);
	return choice.reason;
}
