/* SPDX-License-Identifier: GPL-2.0 */
/*
 * sendmsg() and recvmsg() of UDP sockets that name the peer in each call.
 *
 * Before Linux 5.18 a refused sendmsg() fails with EPERM: the kernel gives a
 * program no other error there, and there is no handshake to send elsewhere.
 */
static __always_inline int km_sendmsg(struct bpf_sock_addr *ctx, struct km_destination *dst,
				      struct km_choice *choice)
{
	struct bpf_sock *sk = ctx->sk;
	struct km_sock *sock = 0;

	if (sk)
		sock = km_sock.sk_storage_get(sk, 0, 0);
	if (km_is_own(sock))
		choice->reason = KM_R_OWN;
	else
		km_flow_choose(bpf_get_socket_cookie(ctx), dst, choice);
	km_count(choice->reason);
	if (!km_is_refusal(choice->reason))
		return KM_PROCEED;
#if KM_HAS_SET_RETVAL
	bpf_set_retval(-ECONNREFUSED);
#endif
	return KM_DENY;
}

static __always_inline bool km_is_sent_to_backend(struct km_choice *choice)
{
	return choice->reason == KM_R_BALANCED || choice->reason == KM_R_FLOW;
}

int km_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct km_destination dst = {};
	struct km_choice choice = {};
	int verdict;

	km_read4(ctx, &dst);
	verdict = km_sendmsg(ctx, &dst, &choice);
	if (km_is_sent_to_backend(&choice))
		km_write4(ctx, choice.addr16, choice.port_be);
	return verdict;
}

int km_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct km_destination dst = {};
	struct km_choice choice = {};
	int verdict;

	km_read6(ctx, &dst);
	dst.families = KM_F_V6;	/* the kernel fails a sendmsg() that a program turns from IPv6 to IPv4 */
	verdict = km_sendmsg(ctx, &dst, &choice);
	if (km_is_sent_to_backend(&choice))
		km_write6(ctx, choice.addr16, choice.port_be);
	return verdict;
}

/* The reply's flow, if its sender is a backend that this socket was sent to. */
static __always_inline struct km_udp_flow *km_reply_flow(struct bpf_sock_addr *ctx,
							 struct km_destination *from)
{
	struct km_udp_flow_key key = {};

	km_flow_key(&key, bpf_get_socket_cookie(ctx), from->key.addr16, from->key.port_be, 1);
	return km_udp_flow.lookup(&key);
}

int km_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct km_destination from = {};
	struct km_udp_flow *flow;

	km_read4(ctx, &from);
	flow = km_reply_flow(ctx, &from);
	if (flow)
		km_write4(ctx, flow->addr16, flow->port_be);
	return KM_PROCEED;
}

int km_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct km_destination from = {};
	struct km_udp_flow *flow;

	km_read6(ctx, &from);
	flow = km_reply_flow(ctx, &from);
	if (flow)
		km_write6(ctx, flow->addr16, flow->port_be);
	return KM_PROCEED;
}
