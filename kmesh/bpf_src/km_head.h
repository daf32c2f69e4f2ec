/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Reading the head of a request: step the head automaton over it and note what
 * its events say (docs/decisions/0008-request-matching.md).
 *
 * A request is worked on in bursts, since a verifier must see the end of every
 * loop: km_read_head() returns KM_MORE while there is something left to do, and
 * the program then tail-calls itself. The kernel grants 33 tail calls, so a head
 * of some 800 short lines or tabs does not come to its end: behind the call stands
 * km_out_of_steps(), which makes it the relay's.
 *
 * What goes on lives in the request, in memory of a map. A number that was
 * stored and loaded again (KM_LOAD) is an unknown one to the verifier, which so
 * finds all ways through one turn of a loop equal and follows the first only.
 * Loops of several ways are unrolled or short: the verifier forgets what it
 * knows of an instruction that it meets often under other counts.
 */
enum { KM_DONE, KM_MORE };

#define KM_READ_TURNS 24	/* of one burst */
#define KM_READ_STEPS 16	/* of one turn, and so are words: bytes that the automaton sees */
#define KM_SKIP_WORDS 8

struct km_request_field {
	__u64 id;
	__u16 start;	/* in the head */
	__u16 length;
	__u32 pad;
};

struct km_request {
	/* Given. */
	__u64 routing;		/* id of the routing unit */
	__u16 port;		/* host order: what was connected to */
	__u16 pad;

	/* The answer. */
	__u32 handover;		/* KM_H_*; KM_H_NONE says that the rest holds */
	__u32 route;		/* its place in the virtual host */
	__u32 head_length;
	__u64 cluster;

	/* The head. */
	struct km_routes routes;
	__u32 marks;		/* KM_M_* */
	__u32 field_count;
	struct km_request_field fields[KM_MAX_REQUEST_FIELDS];

	/* Reading it. */
	__u32 position;
	__u32 state;
	__u32 first;		/* state of the page at hand */
	__u32 is_skipping;	/* to the next control byte */
	__u32 has_path;
	__u32 target_start;
	__u32 value_start;
	__u32 stage;		/* KM_STAGE_* */
	__u64 pending;		/* id of the field whose value is read */

	/* Its virtual host: places in AUTHORITY. */
	__u32 colon;		/* the last that no bracket follows, or the length */
	__u32 colon_before;	/* the one before, likewise */
	__u32 not_digit;	/* the last byte that is none */
	__u32 host_start;	/* in the head */
	__u32 host_length;	/* of what virtual hosts are looked for by */

	/* Running an automaton: `state`, `first` and `position`, up to `end`. */
	__u32 end;
	__u32 is_running;
	__u64 output;

	/* Deciding. */
	__u64 link;		/* to follow, or of the decision at hand */
	__u32 depth;		/* links followed */
	__u32 test;		/* of the decision */
	__u32 is_deciding;
	__u32 is_testing;	/* `values` holds */
	__u32 has_value;
	__u32 values;		/* places of fields, as bits, that the test has still to see */
	__u64 outputs;		/* of its values so far */
	__u64 outcome;		/* of the tests so far */
	__u32 chance;		/* below a million; above: not drawn yet */
	__u32 low;		/* of a search */
	__u64 target;		/* of the route that was found */
	__u32 action;		/* likewise */
	__u32 pad2;
	__u32 has_dot;		/* at the end of the host, or before a colon */
};

/* A tail call came back: no more of them are granted. */
static __always_inline void km_out_of_steps(struct km_request *request)
{
	request->handover = KM_H_STEPS;
}

/* Note a field; once there are too many, the request is the relay's. */
static __always_inline void km_note_field(struct km_request *request, __u64 id, __u64 start, __u64 end)
{
	__u64 at = request->field_count;

	if (at >= KM_MAX_REQUEST_FIELDS) {
		request->handover = KM_H_FIELDS;
		return;
	}
	request->fields[at].id = id;
	request->fields[at].start = start;
	request->fields[at].length = end - start;
	request->field_count = at + 1;
}

/* Which bytes of a word are control bytes, as their top bits: exact for the lowest. */
static __always_inline __u64 km_find_controls(__u64 word)
{
	__u64 ones = 0x0101010101010101ULL, tops = ones << 7;
	__u64 deleted = word ^ ones * 0x7f;

	return (((word - ones * 0x20) & ~word) | ((deleted - ones) & ~deleted)) & tops;
}

/* The number of the lowest byte whose top bit is set. */
static __always_inline __u64 km_lowest_byte(__u64 tops)
{
	__u64 ones = 0x0101010101010101ULL;

	return ((((tops & -tops) - 1) & ones) * ones >> 56) - 1;
}

/* Go on to the next control byte, by eight bytes at a time. */
static __always_inline void km_skip_words(struct km_request *request, void *data, void *data_end)
{
	__u64 position = KM_LOAD(request->position), found = 0;
	int i;

#pragma unroll
	for (i = 0; i < KM_SKIP_WORDS; i++) {
		if (position >= KM_MAX_HEAD_BYTES || data + position + 8 > data_end)
			break;
		found = km_find_controls(*(__u64 *)(data + position));
		if (found)
			break;
		position += 8;
	}
	if (found) {
		position += km_lowest_byte(found);
		request->is_skipping = 0;
	}
	request->position = position;
}

/* Likewise among the last bytes at hand. */
static __always_inline void km_skip_bytes(struct km_request *request, void *data, void *data_end)
{
	__u64 position = KM_LOAD(request->position);
	int i;

	for (i = 0; i < 7; i++) {
		__u8 *at;

		if (position >= KM_MAX_HEAD_BYTES)
			break;
		at = data + position;
		if ((void *)at + 1 > data_end)
			break;
		if (*at < 0x20 || *at == 0x7f) {
			request->is_skipping = 0;
			break;
		}
		position++;
	}
	request->position = position;
}

/* Note the value that ends before `position`, without the blanks at its end. */
static __always_inline void km_note_value(struct km_request *request, void *data, void *data_end)
{
	__u64 start = KM_LOAD(request->value_start), end = KM_LOAD(request->position);
	int i;

#pragma unroll
	for (i = 0; i <= KM_MAX_BLANKS; i++) {
		__u8 *last = data + ((end - 1) & (KM_MAX_HEAD_BYTES - 1));

		if (end <= start || (void *)last + 1 > data_end || (*last != ' ' && *last != '\t'))
			break;
		end--;
	}
	if (request->position - end > KM_MAX_BLANKS)
		request->handover = KM_H_MALFORMED;
	else
		km_note_field(request, request->pending, start, end);
}

/* What an event of the byte at `position` says of fields; `output` is of the state that the byte leaves. */
static __always_inline void km_take_event(struct km_request *request, void *data, void *data_end,
					  __u64 event, __u64 output)
{
	__u64 position = KM_LOAD(request->position);

	switch (event) {
	case KM_E_NONE:
	case KM_E_SKIP:
	case KM_E_HEAD_END:
		return;
	case KM_E_METHOD:
		km_note_field(request, KM_FIELD_METHOD, 0, position);
		return;
	case KM_E_TARGET:
		request->target_start = position;
		return;
	case KM_E_PATH:
		request->has_path = 1;
		km_note_field(request, KM_FIELD_PATH, request->target_start, position);
		return;
	case KM_E_NAME:
		request->pending = output;
		request->value_start = position + 1;
		return;
	case KM_E_VALUE:
		request->value_start = position;
		return;
	case KM_E_VALUE_END:
		km_note_value(request, data, data_end);
		return;
	case KM_E_EMPTY:
		km_note_field(request, request->pending, position, position);
		return;
	case KM_E_BARE:
		km_note_field(request, output, position, position);
		return;
	}
	request->handover = KM_H_BROKEN;
}

/* Take the event of the byte at `position`, which comes with `word`, and go on behind it. */
static __always_inline void km_turn(struct km_request *request, void *data, void *data_end,
				    __u64 word, __u64 output)
{
	__u64 event = km_event(word), position = KM_LOAD(request->position);

	if (event >= KM_E_HANDOVER) {
		event -= KM_E_HANDOVER;
		request->handover = event && event < KM_H_COUNT ? event : KM_H_BROKEN;
		return;
	}
	km_take_event(request, data, data_end, event & ~KM_E_TARGET_END, output);
	if (event & KM_E_TARGET_END && !KM_LOAD(request->handover)) {
		km_note_field(request, KM_FIELD_TARGET, request->target_start, position);
		if (!request->has_path)
			km_note_field(request, KM_FIELD_PATH, request->target_start, position);
	}
	request->is_skipping = event == KM_E_VALUE || event == KM_E_SKIP;
	if (event == KM_E_HEAD_END)
		request->head_length = position + 1;
	request->state = km_next_state(word);
	request->position = position + 1;
}

/* Begin to read a head by the automaton in `routes`. */
static __always_inline void km_begin_head(struct km_request *request)
{
	request->handover = KM_H_NONE;
	request->head_length = 0;
	request->marks = 0;
	request->field_count = 0;
	request->position = 0;
	request->state = 0;
	request->is_skipping = 0;
	request->has_path = 0;
	request->target_start = 0;
	request->value_start = 0;
	request->pending = 0;
}

/* Find the routing unit and begin to read; KM_DONE when that cannot be. */
static __always_inline int km_begin_request(struct km_request *request)
{
	struct km_way way = {};
	struct km_routes *routes;
	__u64 key = request->routing;
	int zero = 0;
	void *routings = km_routing.lookup(&zero), *all = km_routes.lookup(&zero);

	request->handover = KM_H_BROKEN;
	if (!routings || !all || km_read_cell(routings, &key, 2, &way) != KM_CELL_FOUND ||
	    way.action != KM_A_ROUTES)
		return KM_DONE;
	key = way.target;
	routes = bpf_map_lookup_elem(all, &key);
	if (!routes)
		return KM_DONE;
	request->routes = *routes;
	km_begin_head(request);
	request->route = 0;
	request->cluster = 0;
	request->stage = 0;
	request->depth = 0;
	request->is_deciding = 0;
	request->chance = ~0;
	return KM_MORE;
}

/* Whether there is a byte at `position` to read; else whose fault that is. */
static __always_inline bool km_has_byte(struct km_request *request, void *data, void *data_end)
{
	__u64 position = KM_LOAD(request->position);

	if (position >= KM_MAX_HEAD_BYTES) {
		request->handover = KM_H_HEAD_SIZE;
		return false;
	}
	if (data + position + 1 > data_end) {
		request->handover = KM_H_INCOMPLETE;
		return false;
	}
	return true;
}

/* One burst. KM_DONE when the head was read or `handover` is set. */
static __always_inline int km_read_head(struct km_request *request, void *data, void *data_end)
{
	struct km_page *page = 0;
	int zero = 0, turn, i;
	void *pages = km_page.lookup(&zero);

	if (!pages)
		goto broken;
	for (turn = 0; turn < KM_READ_TURNS; turn++) {
		__u64 position, state, first, slot, word = 0, output;
		__u8 *at;

		if (KM_LOAD(request->is_skipping)) {
			km_skip_words(request, data, data_end);
			if (KM_LOAD(request->is_skipping))
				km_skip_bytes(request, data, data_end);
		}
		if (!km_has_byte(request, data, data_end))
			return KM_DONE;
		if (KM_LOAD(request->is_skipping))
			continue;
		position = KM_LOAD(request->position);
		if (position >= KM_MAX_HEAD_BYTES)
			goto broken;
		at = data + position;
		state = KM_LOAD(request->state);
		if (!page || state - KM_LOAD(request->first) >= KM_MAX_PAGE_SLOTS) {
			request->first = km_first_state(state);
			page = km_find_page(pages, request->routes.head, state);
			if (!page)
				goto broken;
		}
		first = KM_LOAD(request->first);
		slot = state - first;
#pragma unroll
		for (i = 0; i < KM_READ_STEPS; i++) {
			KM_HIDE(slot);
			KM_HIDE(at);
			if (slot >= KM_MAX_PAGE_SLOTS || (void *)at + 1 > data_end)
				break;
			word = km_step(page, first, slot, *at);
			if (km_event(word)) {
				if (km_event(word) - KM_E_MARK >= KM_E_TARGET_END - KM_E_MARK)
					break;
				/* A path may be full of them: they end no turn. */
				request->marks |= 1U << (km_event(word) - KM_E_MARK);
				word = km_next_state(word);
			}
			slot = word - first;
			at++;
			word = 0;
		}
		request->position = (void *)at - data;
		request->state = first + slot;
		if (!km_event(word) || KM_LOAD(request->position) >= KM_MAX_HEAD_BYTES)
			continue;
		state = KM_LOAD(request->state);
		if (!km_read_output(page, state - first, &output))
			goto broken;
		km_turn(request, data, data_end, word, output);
		if (request->handover || KM_LOAD(request->head_length))
			return KM_DONE;
	}
	return KM_MORE;
broken:
	request->handover = KM_H_BROKEN;
	return KM_DONE;
}
