/* SPDX-License-Identifier: GPL-2.0 */
/* getpeername(): the application sees the address it asked for. */

static __always_inline struct km_sock *km_rewritten_sock(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct km_sock *sock;

	if (!sk)
		return 0;
	sock = km_sock.sk_storage_get(sk, 0, 0);
	return sock && (sock->flags & KM_S_REWRITTEN) ? sock : 0;
}

int km_getpeername4(struct bpf_sock_addr *ctx)
{
	struct km_sock *sock = km_rewritten_sock(ctx);

	if (sock)
		km_write4(ctx, sock->addr16, sock->port_be);
	return KM_PROCEED;
}

int km_getpeername6(struct bpf_sock_addr *ctx)
{
	struct km_sock *sock = km_rewritten_sock(ctx);

	if (sock)
		km_write6(ctx, sock->addr16, sock->port_be);
	return KM_PROCEED;
}
