/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The decision: which backend, if any, a destination gets. Nothing here sees a
 * context, so a harness can run it (tests/kernel); kmesh/compiler/reference.py
 * does the same steps in Python.
 */
struct km_destination {
	struct km_frontend_key key;	/* what the application asked for */
	__u32 families;			/* KM_F_* of the backends that the call can be sent to */
};

struct km_choice {
	__u64 backend;		/* id; says nothing unless balanced */
	__u64 target;		/* of the frontend; tells a UDP flow that its listener changed. ROUTED: the routing unit */
	__u8 addr16[16];	/* of the backend */
	__u16 port_be;
	__u16 pad;
	__u32 reason;		/* KM_R_* */
};

/* The harness replaces this with the draws of its test case. */
#ifndef km_draw
#define km_draw() bpf_get_prandom_u32()
#endif

static __always_inline bool km_is_v4(const __u8 *addr16)
{
	const __u32 *word = (const __u32 *)addr16;

	return !word[0] && !word[1] && word[2] == bpf_htonl(0xffff);
}

static __always_inline bool km_is_refusal(__u32 reason)
{
	return reason >= KM_R_NO_ENDPOINT;
}

static __always_inline bool km_is_loopback(const __u8 *addr16)
{
	const __u32 *word = (const __u32 *)addr16;

	if (km_is_v4(addr16))
		return word[3] == bpf_htonl(0x7f000001);
	return !word[0] && !word[1] && !word[2] && word[3] == bpf_htonl(1);
}

/*
 * The listener of a destination: its own address, else the wildcard of its
 * family with its port, else (TCP) the one that takes what no other does. A
 * wildcard never takes 127.0.0.1 or ::1: what a pod says to itself is its own.
 */
static __always_inline int km_find_frontend(struct km_frontend_key *asked, struct km_way *way)
{
	struct km_frontend_key key = *asked;
	__u32 *word = (__u32 *)key.addr16;
	int zero = 0, found;
	void *frontends = km_frontend.lookup(&zero);

	if (!frontends)
		return KM_CELL_BROKEN;
	found = km_read_cell(frontends, &key, 5, way);
	if (found != KM_CELL_NONE || km_is_loopback(key.addr16))
		return found;

	if (km_is_v4(key.addr16)) {
		word[3] = 0;
	} else {
		word[0] = 0;
		word[1] = 0;
		word[2] = 0;
		word[3] = 0;
	}
	found = km_read_cell(frontends, &key, 5, way);
	if (found != KM_CELL_NONE || key.protocol != IPPROTO_TCP)
		return found;

	key.port_be = 0;
	return km_read_cell(frontends, &key, 5, way);
}

/* Which entry of a node: an index below its count, or KM_MAX_NODE_FANOUT when the node is not sound. */
static __always_inline __u32 km_pick_entry(struct km_node *node, __u32 *ticket)
{
	__u32 count = node->count, total = node->total, stride = node->stride, index;
	int zero = 0;

	if (node->kind == KM_K_ALIAS) {
		struct km_entry *entry;

		index = ((__u64)km_draw() * count) >> 32;
		if (index >= KM_MAX_NODE_FANOUT)
			return KM_MAX_NODE_FANOUT;
		entry = &node->entries[index];
		return km_draw() <= entry->threshold ? index : entry->alias;
	}
	if (!stride)
		return KM_MAX_NODE_FANOUT;
	if (node->kind == KM_K_CURSOR) {
		void *cursors = km_cursor.lookup(&zero);
		__u64 *cursor, key = node->cursor;

		if (!cursors || !total)
			return KM_MAX_NODE_FANOUT;
		cursor = bpf_map_lookup_elem(cursors, &key);
		if (!cursor)
			return KM_MAX_NODE_FANOUT;
		*ticket = __sync_fetch_and_add(cursor, 1) % total;
	} else if (node->kind != KM_K_INDEX) {
		return KM_MAX_NODE_FANOUT;
	}
	index = *ticket / stride;
	*ticket %= stride;
	return index < count ? index : KM_MAX_NODE_FANOUT;
}

/* Follow clusters and nodes until something else; false when a record is missing or unsound. */
static __always_inline bool km_descend(struct km_way *way)
{
	int zero = 0, step;
	void *clusters = km_cluster.lookup(&zero), *nodes = km_node.lookup(&zero);
	__u32 ticket = 0;

	if (!clusters || !nodes)
		return false;
	for (step = 0; step < KM_MAX_TREE_DEPTH; step++) {
		__u64 key = way->target;

		if (way->action == KM_A_CLUSTER) {
			if (km_read_cell(clusters, &key, 2, way) != KM_CELL_FOUND)
				return false;
		} else if (way->action == KM_A_NODE) {
			struct km_node *node = bpf_map_lookup_elem(nodes, &key);
			__u32 index;

			if (!node)
				return false;
			index = km_pick_entry(node, &ticket);
			if (index >= KM_MAX_NODE_FANOUT)
				return false;
			way->action = node->entries[index].action;
			way->target = node->entries[index].target;
		} else {
			return true;
		}
	}
	return way->action != KM_A_CLUSTER && way->action != KM_A_NODE;
}

/* The backend's address, in the family asked for where both can be had; IPv4 is v4-mapped. */
static __always_inline __u32 km_address(struct km_destination *dst, struct km_choice *choice)
{
	bool wants_v4 = km_is_v4(dst->key.addr16);
	struct km_backend *backend;
	__u64 key = choice->backend;
	int zero = 0;
	void *backends = km_backend.lookup(&zero);
	__u32 families;

	if (!backends)
		return KM_R_BROKEN;
	backend = bpf_map_lookup_elem(backends, &key);
	if (!backend)
		return KM_R_BROKEN;
	if (!(backend->families & (KM_F_V4 | KM_F_V6)))
		return KM_R_BROKEN;
	families = backend->families & dst->families;
	if (!families)
		return KM_R_FAMILY;
	if ((families & KM_F_V4) && (wants_v4 || !(families & KM_F_V6))) {
		__u32 *word = (__u32 *)choice->addr16;

		word[0] = 0;
		word[1] = 0;
		word[2] = bpf_htonl(0xffff);
		__builtin_memcpy(&word[3], backend->addr4_be, 4);
		choice->port_be = backend->port4_be;
		return KM_R_BALANCED;
	}
	__builtin_memcpy(choice->addr16, backend->addr6, 16);
	choice->port_be = backend->port6_be;
	return KM_R_BALANCED;
}

static __always_inline void km_settle(struct km_destination *dst, struct km_way *way,
				      struct km_choice *choice)
{
	if (!km_descend(way)) {
		choice->reason = KM_R_BROKEN;
		return;
	}
	switch (way->action) {
	case KM_A_BACKEND:
		choice->backend = way->target;
		choice->reason = km_address(dst, choice);
		return;
	case KM_A_PASS:
		choice->reason = KM_R_PASSED;
		return;
	case KM_A_REFUSE:
		/* An unknown reason must not be read as anything but a refusal. */
		choice->reason = way->target < KM_R_COUNT && km_is_refusal(way->target) ? way->target : KM_R_BROKEN;
		return;
	case KM_A_ROUTES:
		choice->target = way->target;
		choice->reason = dst->key.protocol == IPPROTO_TCP ? KM_R_ROUTED : KM_R_BROKEN;
		return;
	}
	choice->reason = KM_R_BROKEN;
}

/* Fill `choice`, zeroed by the caller. */
static __always_inline void km_choose(struct km_destination *dst, struct km_choice *choice)
{
	struct km_way way = {};
	int found = km_find_frontend(&dst->key, &way);

	if (found == KM_CELL_NONE) {
		choice->reason = KM_R_NOT_MESH;
		return;
	}
	if (found == KM_CELL_BROKEN) {
		choice->reason = KM_R_BROKEN;
		return;
	}
	choice->target = way.target;
	km_settle(dst, &way, choice);
}
