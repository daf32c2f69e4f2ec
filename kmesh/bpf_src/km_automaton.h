/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Automata over bytes, in pages of slots (docs/decisions/0008-request-matching.md).
 * Whoever runs one keeps the page at hand: a step is then two or three loads
 * and no look-up, and states of another page show as a slot beyond this one.
 */

/* The compiler may not see where a number comes from: it stays in the register in which its bounds are checked. */
#define KM_HIDE(number) asm volatile("" : "+r"(number))

/*
 * The page that holds `state`, or none. `pages` is found once for a whole burst: the verifier takes what comes of two
 * look-ups of an inner map for two maps, and ways through a loop that hold values of different maps for different.
 */
static __always_inline struct km_page *km_find_page(void *pages, __u64 automaton, __u64 state)
{
	struct km_page_key key = { .automaton = automaton, .page = state / KM_MAX_PAGE_SLOTS };

	return bpf_map_lookup_elem(pages, &key);
}

/* The first state of the page that holds `state`. */
static __always_inline __u64 km_first_state(__u64 state)
{
	return state - state % KM_MAX_PAGE_SLOTS;
}

/*
 * The word of the transition by a byte from the state at `slot` of the page whose first state is `first`. Each step
 * waits for the word of the one before: all that needs only the byte is put together first, and checks are predicted.
 */
static __always_inline __u64 km_step(struct km_page *page, __u64 first, __u64 slot, __u8 byte)
{
	__u64 ahead = KM_BEHIND_OUTPUT + page->classes[byte], at;
	__u32 row = KM_T_ROW | (first + slot);

	KM_HIDE(ahead);
	at = slot + ahead;
	KM_HIDE(at);
	if (at < KM_MAX_PAGE_SLOTS && page->slots[at].check == row)
		return page->slots[at].word;
	return page->slots[slot].word;
}

static __always_inline __u64 km_next_state(__u64 word)
{
	return word & KM_DEAD_STATE;
}

static __always_inline __u64 km_event(__u64 word)
{
	return word >> KM_EVENT_SHIFT;
}

/* The output of the state at `slot`: 0 when it has none, false when it does not fit the page. */
static __always_inline bool km_read_output(struct km_page *page, __u64 slot, __u64 *output)
{
	*output = 0;
	if (slot >= KM_MAX_PAGE_SLOTS)
		return false;
	if (!(page->slots[slot].check & KM_T_OUTPUT))
		return true;
	if (slot + 2 >= KM_MAX_PAGE_SLOTS)
		return false;
	*output = page->slots[slot + 1].word | (__u64)page->slots[slot + 2].word << 32;
	return true;
}
