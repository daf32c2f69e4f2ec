/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A connection that connect() sent to an acceptor is established: its stream
 * begins before the application can send, and before the acceptor can accept.
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

int km_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct km_stream fresh = {};
	int receive_bytes = KM_MAX_RECEIVE_BYTES;
	struct km_sock *sock;
	__u64 cookie;

	if (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || !sk)
		return 1;
	sock = km_sock.sk_storage_get(sk, 0, 0);
	if (!sock || !(sock->flags & KM_S_ROUTED))
		return 1;
	cookie = bpf_get_socket_cookie(ctx);
	sock->cookie = cookie;
	sock->flags |= KM_S_STREAM;
	km_tell_peer(ctx, sock);
	km_stream.update(&cookie, &fresh);
	bpf_setsockopt(ctx, KM_SOL_SOCKET, KM_SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
	km_clients.sock_hash_update(ctx, &cookie, BPF_ANY);
	return 1;
}
