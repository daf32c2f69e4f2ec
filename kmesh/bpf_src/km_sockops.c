/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A connection that connect() sent to an acceptor begins and ends. It is known
 * before the application can send, and before the acceptor can accept; and its
 * upstream connection is free for others before the acceptor can see it end.
 */
#define KM_SOL_SOCKET 1
#define KM_SO_RCVBUF 8
#define KM_AF_INET 2

static __always_inline void km_tell_peer(struct bpf_sock_ops *ctx, struct km_sock *sock)
{
	struct km_peer_key key = { .netns = sock->netns };
	struct km_peer peer = { .client = sock->cookie, .routing = sock->routing, .port_be = sock->port_be };
	__u32 *word = (__u32 *)key.addr16;

	if (ctx->family == KM_AF_INET) {
		km_set_v4_mapped(key.addr16, ctx->local_ip4);
	} else {
		word[0] = ctx->local_ip6[0];
		word[1] = ctx->local_ip6[1];
		word[2] = ctx->local_ip6[2];
		word[3] = ctx->local_ip6[3];
	}
	key.port_be = bpf_htons(ctx->local_port);
	__builtin_memcpy(peer.addr16, sock->addr16, 16);
	km_peer.update(&key, &peer);
}

static __always_inline void km_begin_stream(struct bpf_sock_ops *ctx, struct km_sock *sock)
{
	int receive_bytes = KM_MAX_RECEIVE_BYTES;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct km_stream fresh = { .expected = ctx->rcv_nxt };

	sock->cookie = cookie;
	sock->flags |= KM_S_STREAM;
	km_tell_peer(ctx, sock);
	km_stream.update(&cookie, &fresh);
	bpf_setsockopt(ctx, KM_SOL_SOCKET, KM_SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	km_clients.sock_hash_update(ctx, &cookie, BPF_ANY);
}

/*
 * The client can send no more. The connection that it used last goes back to its pool, if the exchange on it ended
 * exactly at its framing and all of the request was sent. It is in the pool only behind its element's end: whatever
 * comes on it from then on makes it unfit (km_skb).
 */
static __always_inline void km_return_bound(struct km_stream *stream, struct km_sock *sock)
{
	struct km_bound_key bound = { .client = sock->cookie, .cluster = stream->cluster };
	struct km_pool_key key = { .netns = sock->netns, .cluster = stream->cluster };
	__u64 cookie = stream->bound;
	struct km_upstream *upstream = km_upstream.lookup(&cookie);
	void *pool = km_pool.lookup(&key);

	if (!cookie || !upstream || !pool || stream->upstream)
		return;
	if (KM_LOAD(upstream->now.state) != KM_N_IDLE || upstream->now.client != bound.client ||
	    upstream->now.is_partial || km_unfit.lookup(&cookie))
		return;
	if (!km_tell(KM_V_RETURNED, 0, bound.client, cookie, bound.cluster, sock->netns))
		return;
	km_bound.delete(&bound);
	km_upstream.delete(&cookie);
	stream->bound = 0;
	if (bpf_map_push_elem(pool, &cookie, 0))
		km_tell(KM_V_CLIENT_CLOSED, 0, 0, cookie, bound.cluster, sock->netns);
}

static __always_inline void km_end_stream(struct km_stream *stream, struct km_sock *sock)
{
	struct km_bound_key bound = { .client = sock->cookie, .cluster = stream->cluster };
	__u64 cookie = sock->cookie;

	km_tell(KM_V_CLIENT_CLOSED, stream->exchanges, cookie, stream->bound, bound.cluster, sock->netns);
	if (stream->bound)
		km_bound.delete(&bound);
	km_grant.delete(&cookie);
	km_stream.delete(&cookie);
}

/* What comes behind FIN_WAIT1 or LAST_ACK changes nothing but CLOSE, when the socket is gone. */
static __always_inline void km_change_state(struct bpf_sock_ops *ctx, struct km_sock *sock)
{
	__u32 state = ctx->args[1];
	__u64 cookie = sock->cookie;
	struct km_stream *stream = km_stream.lookup(&cookie);

	if (!stream)
		return;
	if (state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_LAST_ACK || state == BPF_TCP_CLOSE)
		km_return_bound(stream, sock);
	if (state == BPF_TCP_CLOSE)
		km_end_stream(stream, sock);
}

int km_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct km_sock *sock;
	__u32 op = ctx->op;

	if (!sk || (op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_STATE_CB))
		return 1;
	sock = km_sock.sk_storage_get(sk, 0, 0);
	if (!sock || !(sock->flags & KM_S_ROUTED))
		return 1;
	if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		km_begin_stream(ctx, sock);
	else if (sock->flags & KM_S_STREAM)
		km_change_state(ctx, sock);
	return 1;
}
