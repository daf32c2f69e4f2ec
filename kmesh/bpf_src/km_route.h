/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From a virtual host to a cluster: the decisions, the route, its action
 * (docs/decisions/0008-request-matching.md). In bursts, as km_head.h says.
 */
#define KM_MATCH_TURNS 12	/* of one burst: links, values of tests, or parts of long ones */
#define KM_HOST_TURNS 2		/* of one burst: parts of a host that the wildcard automaton sees */
#define KM_MILLION 1000000

static __always_inline int km_hand_over(struct km_request *request, __u32 reason)
{
	request->handover = reason;
	return KM_DONE;
}

/* Follow a link to a route: it is the one, or by chance another link is. */
static __always_inline void km_follow_route(struct km_request *request, void *routes)
{
	__u64 link = KM_LOAD(request->link);
	struct km_route *route = bpf_map_lookup_elem(routes, &link);

	if ((link & KM_LINK_KIND_BITS) != KM_L_ROUTE || !route) {
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
	} else if ((KM_LOAD(request->link) & KM_LINK_KIND_BITS) != KM_L_DECISION) {
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
