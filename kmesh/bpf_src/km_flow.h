/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UDP flows. A datagram socket that names its peer in each sendmsg() keeps its
 * backend for as long as that backend and its listener's choice exist, as
 * Envoy's UDP sessions do; and a reply shows the address that was asked for.
 */
static __always_inline void km_flow_key(struct km_udp_flow_key *key, __u64 cookie,
					const __u8 *addr16, __u16 port_be, __u16 is_reverse)
{
	key->cookie = cookie;
	__builtin_memcpy(key->addr16, addr16, 16);
	key->port_be = port_be;
	key->is_reverse = is_reverse;
}

static __always_inline bool km_is_same_address(struct km_udp_flow *a, struct km_udp_flow *b)
{
	const __u64 *left = (const __u64 *)a->addr16, *right = (const __u64 *)b->addr16;

	return left[0] == right[0] && left[1] == right[1] && a->port_be == b->port_be;
}

/* Let replies from the chosen backend show what `dst` asked for. */
static __always_inline void km_flow_remember_reply(__u64 cookie, struct km_destination *dst,
						   struct km_choice *choice)
{
	struct km_udp_flow_key key = {};
	struct km_udp_flow flow = {}, *known;

	km_flow_key(&key, cookie, choice->addr16, choice->port_be, 1);
	__builtin_memcpy(flow.addr16, dst->key.addr16, 16);
	flow.port_be = dst->key.port_be;
	known = km_udp_flow.lookup(&key);
	if (!known || !km_is_same_address(known, &flow))
		km_udp_flow.update(&key, &flow);
}

static __always_inline void km_flow_choose(__u64 cookie, struct km_destination *dst,
					   struct km_choice *choice)
{
	struct km_way way = {};
	struct km_udp_flow_key key = {};
	struct km_udp_flow fresh = {}, *flow;
	int found = km_find_frontend(&dst->key, &way);

	choice->target = way.target;
	if (found != KM_CELL_FOUND) {
		choice->reason = found == KM_CELL_NONE ? KM_R_NOT_MESH : KM_R_BROKEN;
		return;
	}
	km_flow_key(&key, cookie, dst->key.addr16, dst->key.port_be, 0);
	flow = km_udp_flow.lookup(&key);
	if (flow && flow->target == choice->target) {
		choice->backend = flow->backend;
		choice->reason = km_address(dst, choice);
		if (choice->reason == KM_R_BALANCED) {
			choice->reason = KM_R_FLOW;
			km_flow_remember_reply(cookie, dst, choice);
			return;
		}
	}
	choice->backend = 0;
	km_settle(dst, &way, choice);
	if (choice->reason != KM_R_BALANCED)
		return;
	fresh.backend = choice->backend;
	fresh.target = choice->target;
	km_udp_flow.update(&key, &fresh);
	km_flow_remember_reply(cookie, dst, choice);
}
