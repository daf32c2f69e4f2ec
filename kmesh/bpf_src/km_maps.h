/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every map. Configuration lives in inner maps, each the single element of an
 * ARRAY_OF_MAPS: growing one is filling a larger inner map and swapping the
 * pointer. They are made and pinned before this is loaded (kmesh/kernel/tables.py);
 * km_t_* only tell bcc the shape of an inner map.
 *
 * Cells are preallocated, so that replacing one cannot fail half way through a
 * switch. Immutable records are not: failing to add one changes nothing yet.
 *
 * The loader defines KM_PIN_DIR.
 */
#define KM_PIN(name) KM_PIN_DIR "/" name

BPF_F_TABLE("hash", struct km_frontend_key, struct km_cell, km_t_frontend, 1, 0);
BPF_F_TABLE("hash", __u64, struct km_cell, km_t_cluster, 1, 0);
BPF_F_TABLE("hash", __u64, struct km_node, km_t_node, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, struct km_backend, km_t_backend, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, __u64, km_t_cursor, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct km_page_key, struct km_page, km_t_page, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, struct km_route, km_t_route, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, struct km_decision, km_t_decision, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, struct km_domain, km_t_domain, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, struct km_index, km_t_index, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, struct km_routes, km_t_routes, 1, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", __u64, struct km_cell, km_t_routing, 1, 0);

BPF_TABLE_PINNED("array_of_maps$km_t_frontend", int, int, km_frontend, 1, KM_PIN("km_frontend"));
BPF_TABLE_PINNED("array_of_maps$km_t_cluster", int, int, km_cluster, 1, KM_PIN("km_cluster"));
BPF_TABLE_PINNED("array_of_maps$km_t_node", int, int, km_node, 1, KM_PIN("km_node"));
BPF_TABLE_PINNED("array_of_maps$km_t_backend", int, int, km_backend, 1, KM_PIN("km_backend"));
BPF_TABLE_PINNED("array_of_maps$km_t_cursor", int, int, km_cursor, 1, KM_PIN("km_cursor"));
BPF_TABLE_PINNED("array_of_maps$km_t_page", int, int, km_page, 1, KM_PIN("km_page"));
BPF_TABLE_PINNED("array_of_maps$km_t_route", int, int, km_route, 1, KM_PIN("km_route"));
BPF_TABLE_PINNED("array_of_maps$km_t_decision", int, int, km_decision, 1, KM_PIN("km_decision"));
BPF_TABLE_PINNED("array_of_maps$km_t_domain", int, int, km_domain, 1, KM_PIN("km_domain"));
BPF_TABLE_PINNED("array_of_maps$km_t_index", int, int, km_index, 1, KM_PIN("km_index"));
BPF_TABLE_PINNED("array_of_maps$km_t_routes", int, int, km_routes, 1, KM_PIN("km_routes"));
BPF_TABLE_PINNED("array_of_maps$km_t_routing", int, int, km_routing, 1, KM_PIN("km_routing"));

BPF_TABLE_PINNED("sk_storage", int, struct km_sock, km_sock, 0, KM_PIN("km_sock"),
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lru_hash", struct km_udp_flow_key, struct km_udp_flow, km_udp_flow,
		 KM_MAX_UDP_FLOWS, KM_PIN("km_udp_flow"));
BPF_TABLE_PINNED("percpu_array", int, __u64, km_reason, KM_R_COUNT, KM_PIN("km_reason"));

/* Of streams (docs/decisions/0009-streams.md). bcc has no pinned form of these two, and rewrites these calls only. */
#define KM_SOCKHASH(_name)							\
struct _name##_table_t {							\
	__u64 key;								\
	__u64 leaf;								\
	__u64 *(*lookup)(__u64 *);						\
	int (*sock_hash_update)(void *, void *, __u64);				\
	int (*msg_redirect_hash)(void *, void *, __u64);			\
	int (*sk_redirect_hash)(void *, void *, __u64);				\
	__u32 max_entries;							\
};										\
__attribute__((section("maps/sockhash:" KM_PIN(#_name))))			\
struct _name##_table_t _name = { .max_entries = KM_MAX_STREAMS };		\
BPF_ANNOTATE_KV_PAIR(_name, __u64, __u64)

#define KM_RINGBUF(_name)							\
struct _name##_table_t {							\
	int key;								\
	__u32 leaf;								\
	int (*ringbuf_output)(void *, __u64, __u64);				\
	__u32 max_entries;							\
};										\
__attribute__((section("maps/ringbuf:" KM_PIN(#_name))))			\
struct _name##_table_t _name = { .max_entries = KM_MAX_EVENT_BYTES }

KM_SOCKHASH(km_clients);
KM_SOCKHASH(km_upstreams);
KM_RINGBUF(km_events);

BPF_TABLE_PINNED("hash", __u64, struct km_acceptor, km_acceptor, KM_MAX_STREAMS, KM_PIN("km_acceptor"));
BPF_TABLE_PINNED("hash", struct km_peer_key, struct km_peer, km_peer, KM_MAX_STREAMS, KM_PIN("km_peer"),
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", __u64, struct km_stream, km_stream, KM_MAX_STREAMS, KM_PIN("km_stream"),
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", __u64, struct km_grant, km_grant, KM_MAX_STREAMS, KM_PIN("km_grant"),
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct km_bound_key, __u64, km_bound, KM_MAX_STREAMS, KM_PIN("km_bound"),
		 BPF_F_NO_PREALLOC);
/* Upstream connections that no request may be sent on any more, by cookie; the value is KM_N_RELAYED or KM_N_DEAD. */
BPF_TABLE_PINNED("lru_hash", __u64, __u64, km_unfit, KM_MAX_STREAMS, KM_PIN("km_unfit"));
/* Events that found no room. The relay looks at the maps when they become more (kmesh/relay/untold.py). */
BPF_TABLE_PINNED("percpu_array", int, __u64, km_untold, 1, KM_PIN("km_untold"));

BPF_QUEUE(km_t_pool, __u64, KM_MAX_POOL_SIZE);
BPF_TABLE_PINNED("hash_of_maps$km_t_pool", struct km_pool_key, int, km_pool, KM_MAX_STREAMS, KM_PIN("km_pool"));
