/* SPDX-License-Identifier: GPL-2.0 */
/*
 * connect(): choose a backend and rewrite the destination, once per connection.
 *
 * Before Linux 5.18 a program cannot choose connect()'s error (EPERM only), so
 * there a refusal is a rewrite to port 0 of the loopback address, where nothing
 * can listen: the application gets the same ECONNREFUSED, one reset later.
 */
static __always_inline bool km_is_own(struct km_sock *sock)
{
	return sock && (sock->flags & KM_S_OWN);
}

/* Keep what the application asked for, for getpeername() and UDP replies. */
static __always_inline void km_remember_asked(struct bpf_sock_addr *ctx, struct km_sock *sock,
					      struct km_destination *dst, struct km_choice *choice)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sock && sk)
		sock = km_sock.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (sock) {
		__builtin_memcpy(sock->addr16, dst->key.addr16, 16);
		sock->port_be = dst->key.port_be;
		sock->protocol = dst->key.protocol;
		sock->flags = KM_S_REWRITTEN;
		if (choice->reason == KM_R_ROUTED) {
			sock->flags |= KM_S_ROUTED;
			sock->routing = choice->target;
			sock->netns = bpf_get_netns_cookie(ctx);
		}
	}
	if (dst->key.protocol == IPPROTO_UDP)
		km_flow_remember_reply(bpf_get_socket_cookie(ctx), dst, choice);
}

/* Once: an acceptor without ports says that it was asked for. */
static __always_inline void km_ask_for_acceptor(__u64 netns)
{
	struct km_acceptor asked = {};

	if (km_acceptor.insert(&netns, &asked))
		return;
	if (!km_tell(KM_V_NO_ACCEPTOR, bpf_get_current_pid_tgid() >> 32, 0, 0, 0, netns))
		km_acceptor.delete(&netns);
}

/* Lead to the acceptor of the namespace; without socket storage nothing could be routed. */
static __always_inline void km_find_acceptor(struct bpf_sock_addr *ctx, struct km_destination *dst,
					     struct km_choice *choice)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct km_acceptor *acceptor = km_acceptor.lookup(&netns);
	__u32 *word = (__u32 *)choice->addr16;
	bool is_v4 = km_is_v4(dst->key.addr16);

	if (acceptor)
		choice->port_be = is_v4 ? acceptor->port4_be : acceptor->port6_be;
	if (!choice->port_be || !ctx->sk) {
		choice->reason = KM_R_NO_ACCEPTOR;
		km_ask_for_acceptor(netns);
		return;
	}
	word[0] = 0;
	word[1] = 0;
	word[2] = is_v4 ? bpf_htonl(0xffff) : 0;
	word[3] = is_v4 ? bpf_htonl(0x7f000001) : bpf_htonl(1);
}

static __always_inline bool km_connect(struct bpf_sock_addr *ctx, struct km_destination *dst,
				       struct km_choice *choice)
{
	struct bpf_sock *sk = ctx->sk;
	struct km_sock *sock = 0;

	if (sk)
		sock = km_sock.sk_storage_get(sk, 0, 0);
	if (km_is_own(sock)) {
		choice->reason = KM_R_OWN;
		return false;
	}
	km_choose(dst, choice);
	if (choice->reason == KM_R_ROUTED)
		km_find_acceptor(ctx, dst, choice);
	if (choice->reason == KM_R_BALANCED || choice->reason == KM_R_ROUTED) {
		km_remember_asked(ctx, sock, dst, choice);
		return true;
	}
	/* A datagram socket that is refused another peer keeps the one it has, unless refusing is a rewrite. */
	if (sock && !(KM_HAS_SET_RETVAL && km_is_refusal(choice->reason)))
		sock->flags = 0;	/* of an earlier connect() of the same socket */
	return false;
}

#if KM_HAS_SET_RETVAL
#define KM_REFUSE4(ctx) ({ bpf_set_retval(-ECONNREFUSED); KM_DENY; })
#define KM_REFUSE6(ctx, dst) ({ bpf_set_retval(-ECONNREFUSED); KM_DENY; })
#else
static __always_inline int km_refuse4(struct bpf_sock_addr *ctx)
{
	ctx->user_ip4 = bpf_htonl(0x7f000001);
	ctx->user_port = 0;
	return KM_PROCEED;
}

static __always_inline int km_refuse6(struct bpf_sock_addr *ctx, struct km_destination *dst)
{
	bool is_v4 = km_is_v4(dst->key.addr16);

	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = is_v4 ? bpf_htonl(0xffff) : 0;
	ctx->user_ip6[3] = is_v4 ? bpf_htonl(0x7f000001) : bpf_htonl(1);
	ctx->user_port = 0;
	return KM_PROCEED;
}
#define KM_REFUSE4(ctx) km_refuse4(ctx)
#define KM_REFUSE6(ctx, dst) km_refuse6(ctx, dst)
#endif

int km_connect4(struct bpf_sock_addr *ctx)
{
	struct km_destination dst = {};
	struct km_choice choice = {};

	km_read4(ctx, &dst);
	if (km_connect(ctx, &dst, &choice))
		km_write4(ctx, choice.addr16, choice.port_be);
	km_count(choice.reason);
	if (km_is_refusal(choice.reason))
		return KM_REFUSE4(ctx);
	return KM_PROCEED;
}

int km_connect6(struct bpf_sock_addr *ctx)
{
	struct km_destination dst = {};
	struct km_choice choice = {};

	km_read6(ctx, &dst);
	if (km_connect(ctx, &dst, &choice))
		km_write6(ctx, choice.addr16, choice.port_be);
	km_count(choice.reason);
	if (km_is_refusal(choice.reason))
		return KM_REFUSE6(ctx, &dst);
	return KM_PROCEED;
}
