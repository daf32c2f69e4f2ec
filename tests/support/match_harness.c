/* SPDX-License-Identifier: GPL-2.0 */
/*
 * After the matcher: programs that run it for BPF_PROG_TEST_RUN. The case lies in a map that
 * tests/support/match_harness.py has in its memory; a packet would hold no head of more than a page. km_run_load makes
 * the packet, km_run_head and km_run_match work on it, each calling itself until it is done.
 */
#define KM_HEAD_AT 16	/* a packet begins with an Ethernet header */
#define KM_CASE_BYTES (2 * KM_MAX_HEAD_BYTES)

struct km_case {
	__u32 numbers[KM_CASE_DRAWS];
	__u32 draws_taken;
	__u32 bursts;
	__u32 is_loading_only;
	__u32 head_length;
	__u8 head[KM_CASE_BYTES];	/* behind one byte, as nothing cannot be stored */
	struct km_request request;
};

BPF_F_TABLE("array", int, struct km_case, km_case, 1, BPF_F_MMAPABLE);

enum { KM_PHASE_HEAD, KM_PHASE_MATCH, KM_PHASE_COUNT };

BPF_PROG_ARRAY(km_phases, KM_PHASE_COUNT);

/* Make the packet of the case, and begin. All return 0 when there is an answer. */
int km_run_load(struct __sk_buff *skb)
{
	int zero = 0;
	struct km_case *given = km_case.lookup(&zero);
	struct km_draws *draws = km_draws.lookup(&zero);
	__u32 length, i;

	if (!given || !draws)
		return -1;
	length = given->head_length % KM_CASE_BYTES;
	if (bpf_skb_change_tail(skb, KM_HEAD_AT + length, 0) ||
	    bpf_skb_store_bytes(skb, KM_HEAD_AT - 1, given->head, length + 1, 0))
		return -1;
	draws->taken = 0;
	for (i = 0; i < KM_CASE_DRAWS; i++)
		draws->numbers[i] = given->numbers[i];
	given->bursts = 0;
	given->draws_taken = 0;
	if (given->is_loading_only || km_begin_request(&given->request) == KM_DONE)
		return 0;
	km_phases.call(skb, KM_PHASE_HEAD);
	return -1;
}

int km_run_head(struct __sk_buff *skb)
{
	void *data_end = (void *)(long)skb->data_end;
	void *data = (void *)(long)skb->data + KM_HEAD_AT;
	int zero = 0;
	struct km_case *given = km_case.lookup(&zero);

	if (!given)
		return -1;
	given->bursts++;
	if (km_read_head(&given->request, data, data_end) == KM_MORE)
		km_phases.call(skb, KM_PHASE_HEAD);
	else if (KM_LOAD(given->request.handover))
		return 0;
	else
		km_phases.call(skb, KM_PHASE_MATCH);
	km_out_of_steps(&given->request);
	return 0;
}

int km_run_match(struct __sk_buff *skb)
{
	void *data_end = (void *)(long)skb->data_end;
	void *data = (void *)(long)skb->data + KM_HEAD_AT;
	int zero = 0;
	struct km_case *given = km_case.lookup(&zero);
	struct km_draws *draws = km_draws.lookup(&zero);

	if (!given || !draws)
		return -1;
	given->bursts++;
	if (km_match(&given->request, data, data_end) == KM_MORE) {
		km_phases.call(skb, KM_PHASE_MATCH);
		km_out_of_steps(&given->request);
	}
	given->draws_taken = draws->taken;
	return 0;
}
