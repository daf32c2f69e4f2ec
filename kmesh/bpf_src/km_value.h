/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The values of a head's fields: which there are, and what an automaton says of
 * one (docs/decisions/0008-request-matching.md). In bursts, as km_head.h says.
 */
#define KM_RUN_STEPS 16	/* of one turn: bytes that an automaton sees */

/* The number of the lowest bit that is set; of none, 64. */
static __always_inline __u64 km_lowest_bit(__u64 bits)
{
	__u64 below = (bits & -bits) - 1;

	below -= (below >> 1) & 0x5555555555555555ULL;
	below = (below & 0x3333333333333333ULL) + ((below >> 2) & 0x3333333333333333ULL);
	below = (below + (below >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	below = below * 0x0101010101010101ULL >> 56;
	KM_HIDE(below);
	return below;
}

/* Which of the fields that were noted have this id, as bits. */
static __always_inline __u64 km_find_fields(struct km_request *request, __u64 id)
{
	__u64 found = 0;
	int i;

#pragma unroll
	for (i = 0; i < KM_MAX_REQUEST_FIELDS; i++) {
		__u64 other = request->fields[i].id ^ id;

		found |= (~(other | -other) >> 63) << i;
	}
	return found & ((1ULL << (request->field_count & 31)) - 1);
}

/* Begin to run an automaton over a part of the head. */
static __always_inline void km_begin_run(struct km_request *request, __u64 start, __u64 length)
{
	request->state = 0;
	request->position = start;
	request->end = start + length;
	request->is_running = 1;
	request->output = 0;
}

/* Run it on. When it ends, `is_running` is 0 and `output` holds. False when it is unsound. */
static __always_inline bool km_run(struct km_request *request, void *pages, __u64 automaton,
				   void *data, void *data_end)
{
	__u64 state = KM_LOAD(request->state), position = KM_LOAD(request->position), first, slot, left, word, output;
	struct km_page *page = km_find_page(pages, automaton, state);
	__u8 *at;
	int i;

	request->first = km_first_state(state);
	if (!page || position > KM_MAX_HEAD_BYTES)
		return false;
	first = KM_LOAD(request->first);
	left = request->end - position;
	at = data + position;
	slot = state - first;
#pragma unroll
	for (i = 0; i < KM_RUN_STEPS; i++) {
		KM_HIDE(slot);
		KM_HIDE(at);
		if (i >= left || slot >= KM_MAX_PAGE_SLOTS || (void *)at + 1 > data_end)
			break;
		word = km_step(page, first, slot, *at);
		slot = km_next_state(word) - first;
		at++;
		if (km_event(word) == KM_E_FINAL) {
			request->end = (void *)at - data;
			break;
		}
	}
	request->state = first + slot;
	request->position = (void *)at - data;
	if (KM_LOAD(request->state) == KM_DEAD_STATE) {
		request->is_running = 0;
		return true;
	}
	slot = KM_LOAD(request->state) - first;
	if (KM_LOAD(request->position) < KM_LOAD(request->end) || slot >= KM_MAX_PAGE_SLOTS)
		return true;
	if (!km_read_output(page, slot, &output))
		return false;
	request->output = output;
	request->is_running = 0;
	return true;
}
