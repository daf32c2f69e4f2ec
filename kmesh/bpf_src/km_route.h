/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From a head that was read to a cluster: the virtual host, the decisions, the
 * action (docs/decisions/0008-request-matching.md). In bursts, as km_head.h says.
 */
#define KM_MATCH_TURNS 12	/* of one burst: links, values of tests, or parts of long ones */
#define KM_MATCH_STEPS 16	/* of one turn: bytes that an automaton sees */
#define KM_HOST_TURNS 2		/* of one burst: parts of a host that the wildcard automaton sees */
#define KM_MILLION 1000000

enum { KM_STAGE_HOST, KM_STAGE_WILDCARD, KM_STAGE_ROUTE, KM_STAGE_TAKEN };

static __always_inline int km_hand_over(struct km_request *request, __u32 reason)
{
	request->handover = reason;
	return KM_DONE;
}

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
	for (i = 0; i < KM_MATCH_STEPS; i++) {
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

/* Whether Host may have it: letters, digits, and !$&'()*+,;=:@%[]._~- */
static __always_inline bool km_is_host_byte(__u64 byte)
{
	__u64 bits = byte < 64 ? 0x2fff7ff200000000ULL : 0x47fffffeafffffffULL;

	return byte < 128 && (bits >> (byte & 63) & 1);
}

static __always_inline __u64 km_lower(__u64 byte)
{
	return byte + (((byte - '[') & ~(byte - 'A')) >> 63 << 5);
}

/* Where AUTHORITY is. Each loop makes its own: what it learns of a pointer would set apart the ways out of it. */
static __always_inline __u8 *km_host(struct km_request *request, void *data)
{
	return data + (KM_LOAD(request->host_start) & (KM_MAX_HEAD_BYTES - 1));
}

/* Check the bytes of AUTHORITY, and find its colons. */
static __always_inline void km_scan_host(struct km_request *request, void *data, void *data_end)
{
	__u64 length = KM_LOAD(request->host_length), before = 0;
	__u8 *host = km_host(request, data);
	int i;

	request->colon = length;
	request->colon_before = length;
	request->not_digit = length;
	request->has_dot = 0;
	for (i = 0; i < KM_MAX_HOST_BYTES; i++) {
		__u64 byte;

		if (i >= length)
			break;
		KM_HIDE(host);
		if ((void *)host + 1 > data_end) {
			request->handover = KM_H_BROKEN;
			return;
		}
		byte = *host;
		host++;
		if (!km_is_host_byte(byte)) {
			request->handover = KM_H_HOST;
			return;
		}
		if (byte - '0' > 9)
			request->not_digit = i;
		if (byte == ':') {
			if (before == '.')
				request->has_dot = 1;
			request->colon_before = KM_LOAD(request->colon);
			request->colon = i;
		} else if (byte == ']') {
			request->colon = length;
			request->colon_before = length;
		}
		before = byte;
	}
	if (before == '.')
		request->has_dot = 1;
}

/* Find the entry for `key` in an index: how many keys are not above it. */
static __always_inline __u64 km_search(struct km_request *request, struct km_index *index, __u64 key)
{
	__u64 count = index->count;
	int step;

	request->low = 0;
#pragma unroll
	for (step = 128; step; step /= 2) {
		__u64 last = KM_LOAD(request->low) + step - 1;

		KM_HIDE(last);
		if (last < count && last < KM_MAX_INDEX_FANOUT && index->entries[last].key <= key)
			request->low = last + 1;
	}
	return KM_LOAD(request->low);
}

/* The domain with this hash, or none; what is unsound is handed over. */
static __always_inline struct km_domain *km_look_up(struct km_request *request, __u64 hash)
{
	int zero = 0, level;
	void *indices = km_index.lookup(&zero), *domains = km_domain.lookup(&zero);
	__u64 key = request->routes.domains;
	struct km_domain *domain;

	if (!indices || !domains)
		goto broken;
	for (level = 0; level < KM_MAX_INDEX_DEPTH; level++) {
		struct km_index *index;
		__u64 place;

		if (!key)
			return 0;
		index = bpf_map_lookup_elem(indices, &key);
		if (!index || index->count > KM_MAX_INDEX_FANOUT)
			goto broken;
		place = km_search(request, index, hash) - 1;
		KM_HIDE(place);
		key = 0;
		if (place < KM_MAX_INDEX_FANOUT && (index->level || index->entries[place].key == hash))
			key = index->entries[place].target;
		if (index->level)
			continue;
		if (!key)
			return 0;
		domain = bpf_map_lookup_elem(domains, &key);
		if (domain)
			return domain;
		goto broken;
	}
broken:
	request->handover = KM_H_BROKEN;
	return 0;
}

/* Cut the port off AUTHORITY where the options say so. */
static __always_inline void km_strip_port(struct km_request *request, struct km_request_field *authority,
					  void *data, void *data_end)
{
	__u64 colon = KM_LOAD(request->colon), digits = authority->length - colon - 1, number = 0;
	__u8 *host;
	int i;

	if (!(request->routes.flags & (KM_RF_STRIP_PORT | KM_RF_STRIP_MATCHING_PORT)) ||
	    KM_LOAD(request->not_digit) != colon || digits - 1 >= KM_MAX_HOST_BYTES)
		return;
	if (digits > 5) {
		request->handover = KM_H_NORMALIZE;
		return;
	}
	if (!(request->routes.flags & KM_RF_STRIP_PORT)) {
		if (colon >= KM_MAX_HOST_BYTES)
			return;
		host = km_host(request, data) + colon + 1;
#pragma unroll
		for (i = 0; i < 5; i++) {
			KM_HIDE(host);
			if (i >= digits || (void *)host + 1 > data_end)
				break;
			number = number * 10 + *host - '0';
			host++;
		}
		if (number != request->port)
			return;
	}
	authority->length = colon;
	request->colon = KM_LOAD(request->colon_before);
}

/* The hash of the first `host_length` bytes, in lower case. */
static __always_inline __u64 km_hash_host(struct km_request *request, void *data, void *data_end)
{
	__u64 length = KM_LOAD(request->host_length), hash = KM_HASH_SEED;
	__u8 *host = km_host(request, data);
	int i;

	for (i = 0; i < KM_MAX_HOST_BYTES; i++) {
		KM_HIDE(host);
		if (i >= length || (void *)host + 1 > data_end)
			break;
		hash = (hash ^ km_lower(*host)) * KM_HASH_MULTIPLIER;
		host++;
	}
	return hash;
}

/* Whether they are the domain's text. */
static __always_inline bool km_is_domain(struct km_request *request, struct km_domain *domain,
					 void *data, void *data_end)
{
	__u64 length = KM_LOAD(request->host_length);
	__u8 *host = km_host(request, data);
	int i;

	if (domain->length != length)
		return false;
	for (i = 0; i < KM_MAX_HOST_BYTES; i++) {
		KM_HIDE(host);
		if (i >= length || (void *)host + 1 > data_end)
			break;
		if (km_lower(*host) != domain->text[i])
			return false;
		host++;
	}
	return true;
}

/* Look for the virtual host by AUTHORITY as it is; the wildcards come next. */
static __always_inline void km_find_host(struct km_request *request, void *data, void *data_end)
{
	__u64 found = km_find_fields(request, KM_FIELD_AUTHORITY), place, length, end;
	struct km_request_field *authority;
	struct km_domain *domain;

	if (request->marks & request->routes.relayed_marks) {
		request->handover = KM_H_NORMALIZE;
		return;
	}
	place = km_lowest_bit(found);
	if (!found || (found & (found - 1)) || place >= KM_MAX_REQUEST_FIELDS) {
		request->handover = KM_H_HOST;
		return;
	}
	authority = &request->fields[place];
	length = authority->length;
	if (length - 1 >= KM_MAX_HOST_BYTES) {
		request->handover = KM_H_HOST;
		return;
	}
	request->host_start = authority->start;
	request->host_length = length;
	km_scan_host(request, data, data_end);
	if (KM_LOAD(request->handover))
		return;
	if (request->routes.flags & KM_RF_STRIP_DOT && KM_LOAD(request->has_dot)) {
		request->handover = KM_H_NORMALIZE;
		return;
	}
	km_strip_port(request, authority, data, data_end);
	if (KM_LOAD(request->handover))
		return;
	end = KM_LOAD(authority->length);
	if (request->routes.flags & KM_RF_IGNORE_PORT && KM_LOAD(request->colon) < end)
		end = KM_LOAD(request->colon);
	request->host_length = end;
	domain = km_look_up(request, km_hash_host(request, data, data_end));
	if (domain && km_is_domain(request, domain, data, data_end)) {
		request->link = domain->link;
		request->stage = KM_STAGE_ROUTE;
		return;
	}
	if (!request->routes.wildcards) {
		if (!KM_LOAD(request->handover))
			request->handover = KM_H_NO_VIRTUAL_HOST;
		return;
	}
	km_begin_run(request, authority->start, end);
	request->stage = KM_STAGE_WILDCARD;
}

/* Look for the virtual host by the wildcard that the automaton found. */
static __always_inline void km_find_wildcard(struct km_request *request)
{
	__u64 hash = request->output;
	struct km_domain *domain = hash ? km_look_up(request, hash) : 0;

	if (domain) {
		request->link = domain->link;
		request->stage = KM_STAGE_ROUTE;
	} else if (!KM_LOAD(request->handover)) {
		request->handover = KM_H_NO_VIRTUAL_HOST;
	}
}

/* Follow a link to a route: it is the one, or by chance another link is. */
static __always_inline void km_follow_route(struct km_request *request, void *routes)
{
	__u64 link = KM_LOAD(request->link);
	struct km_route *route = bpf_map_lookup_elem(routes, &link);

	if ((link & 3) != KM_L_ROUTE || !route) {
		request->handover = KM_H_BROKEN;
		return;
	}
	if (route->per_million < KM_MILLION && KM_LOAD(request->chance) >= KM_MILLION)
		request->chance = (__u64)km_draw() * KM_MILLION >> 32;
	if (route->per_million < KM_MILLION && KM_LOAD(request->chance) >= route->per_million) {
		request->link = route->otherwise;
		return;
	}
	request->route = route->route;
	request->action = route->action;
	request->target = route->target;
	request->stage = KM_STAGE_TAKEN;
}

/* Follow one link. */
static __always_inline void km_follow(struct km_request *request, void *routes)
{
	if (KM_LOAD(request->depth) >= KM_MAX_DECISION_DEPTH) {
		request->handover = KM_H_BROKEN;
		return;
	}
	request->depth++;
	if (!KM_LOAD(request->link)) {
		request->handover = KM_H_NO_ROUTE;
	} else if ((KM_LOAD(request->link) & 3) != KM_L_DECISION) {
		km_follow_route(request, routes);
	} else {
		request->is_deciding = 1;
		request->is_testing = 0;
		request->test = 0;
		request->outcome = ~0ULL;
	}
}

/* All tests of a decision were run. */
static __always_inline void km_end_decision(struct km_request *request, struct km_decision *decision)
{
	__u64 outcome = KM_LOAD(request->outcome), bit = km_lowest_bit(outcome);

	request->link = decision->next;
	if (bit < KM_MAX_DECISION_BITS)
		request->link = decision->links[bit];
	request->is_deciding = 0;
}

/* All values of a test were seen. */
static __always_inline void km_end_test(struct km_request *request, struct km_decision *decision,
					struct km_test *test)
{
	__u64 outputs = KM_LOAD(request->outputs);

	if (decision->kind == KM_D_SPLIT) {
		if (!request->has_value)
			request->link = test->absent;
		else
			request->link = outputs ? outputs : decision->next;
		request->is_deciding = 0;
		return;
	}
	request->outcome &= request->has_value ? outputs ^ test->inverted : test->absent;
	request->test++;
	request->is_testing = 0;
}

/* Find the values that a test looks at. */
static __always_inline void km_begin_test(struct km_request *request, struct km_decision *decision,
					  struct km_test *test)
{
	__u64 field = test->field, values = km_find_fields(request, field);
	bool is_repeated = values & (values - 1);

	if (field & KM_FIELD_IS_JOINED && is_repeated)
		request->handover = KM_H_REPEATED;
	if (field & KM_FIELD_IS_PARAMETER)
		values &= -values;
	else if (decision->kind == KM_D_SPLIT && is_repeated)
		request->handover = KM_H_REPEATED;
	request->has_value = values != 0;
	request->values = test->automaton ? values : 0;
	request->outputs = 0;
	request->is_testing = 1;
	request->is_running = 0;
}

/* One turn of a decision: its end, a test's end, or a part of one value. */
static __always_inline void km_decide(struct km_request *request, struct km_decision *decision, void *pages,
				      void *data, void *data_end)
{
	__u64 number = KM_LOAD(request->test), values, place;
	struct km_test *test;

	if (decision->test_count > KM_MAX_DECISION_TESTS ||
	    (decision->kind != KM_D_TEST && (decision->kind != KM_D_SPLIT || !decision->test_count))) {
		request->handover = KM_H_BROKEN;
		return;
	}
	if (number >= decision->test_count || number >= KM_MAX_DECISION_TESTS) {
		km_end_decision(request, decision);
		return;
	}
	test = &decision->tests[number];
	if (!KM_LOAD(request->is_testing)) {
		km_begin_test(request, decision, test);
		if (KM_LOAD(request->handover))
			return;
	}
	values = KM_LOAD(request->values);
	if (values && !KM_LOAD(request->is_running)) {
		place = km_lowest_bit(values);
		if (place >= KM_MAX_REQUEST_FIELDS) {
			request->handover = KM_H_BROKEN;
			return;
		}
		request->values = values & (values - 1);
		km_begin_run(request, request->fields[place].start, request->fields[place].length);
	}
	if (KM_LOAD(request->is_running)) {
		if (!km_run(request, pages, test->automaton, data, data_end)) {
			request->handover = KM_H_BROKEN;
			return;
		}
		if (KM_LOAD(request->is_running))
			return;
		request->outputs |= KM_LOAD(request->output);
	}
	if (!KM_LOAD(request->values))
		km_end_test(request, decision, test);
}

/* The cluster of the route that was found. */
static __always_inline void km_take(struct km_request *request)
{
	int zero = 0, step;
	void *nodes = km_node.lookup(&zero);
	__u32 ticket = 0, action = request->action;
	__u64 target = request->target;

	if (action == KM_A_HANDOVER) {
		request->handover = target - 1 < KM_H_COUNT - 1 ? target : KM_H_BROKEN;
		return;
	}
	request->handover = KM_H_BROKEN;
	if (!nodes)
		return;
	for (step = 0; step < KM_MAX_TREE_DEPTH && action == KM_A_NODE; step++) {
		struct km_node *node = bpf_map_lookup_elem(nodes, &target);
		__u32 index;

		if (!node)
			return;
		index = km_pick_entry(node, &ticket);
		if (index >= KM_MAX_NODE_FANOUT)
			return;
		action = node->entries[index].action;
		target = node->entries[index].target;
	}
	if (action != KM_A_CLUSTER)
		return;
	request->handover = KM_H_NONE;
	request->cluster = target;
}

/* One burst. KM_DONE when the answer is there. */
static __always_inline int km_match(struct km_request *request, void *data, void *data_end)
{
	int zero = 0, turn;
	void *pages = km_page.lookup(&zero), *routes = km_route.lookup(&zero);
	void *decisions = km_decision.lookup(&zero);
	struct km_decision *decision = 0;

	if (!pages || !routes || !decisions)
		return km_hand_over(request, KM_H_BROKEN);
	if (KM_LOAD(request->stage) == KM_STAGE_HOST)
		km_find_host(request, data, data_end);
	if (KM_LOAD(request->handover))
		return KM_DONE;
	if (KM_LOAD(request->stage) == KM_STAGE_WILDCARD) {
		for (turn = 0; turn < KM_HOST_TURNS; turn++) {
			if (!km_run(request, pages, request->routes.wildcards, data, data_end))
				return km_hand_over(request, KM_H_BROKEN);
			if (!KM_LOAD(request->is_running))
				break;
		}
		if (KM_LOAD(request->is_running))
			return KM_MORE;
		km_find_wildcard(request);
		if (KM_LOAD(request->handover))
			return KM_DONE;
	}
	for (turn = 0; turn < KM_MATCH_TURNS; turn++) {
		if (!KM_LOAD(request->is_deciding)) {
			km_follow(request, routes);
			if (KM_LOAD(request->handover))
				return KM_DONE;
			if (KM_LOAD(request->stage) == KM_STAGE_TAKEN)
				break;
			decision = 0;
		}
		if (!KM_LOAD(request->is_deciding))
			continue;
		if (!decision) {
			__u64 link = KM_LOAD(request->link);

			decision = bpf_map_lookup_elem(decisions, &link);
			if (!decision)
				return km_hand_over(request, KM_H_BROKEN);
		}
		km_decide(request, decision, pages, data, data_end);
		if (KM_LOAD(request->handover))
			return KM_DONE;
	}
	if (KM_LOAD(request->stage) != KM_STAGE_TAKEN)
		return KM_MORE;
	km_take(request);
	return KM_DONE;
}
