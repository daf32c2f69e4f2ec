/* SPDX-License-Identifier: GPL-2.0 */
/* Between struct bpf_sock_addr and plain structs; the only place that knows its fields. */

static __always_inline void km_count(__u32 reason)
{
	int index = reason;
	__u64 *counter = km_reason.lookup(&index);

	if (counter)
		*counter += 1;
}

static __always_inline void km_set_v4_mapped(__u8 *addr16, __u32 addr_be)
{
	__u32 *word = (__u32 *)addr16;

	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = addr_be;
}

static __always_inline void km_read4(struct bpf_sock_addr *ctx, struct km_destination *dst)
{
	km_set_v4_mapped(dst->key.addr16, ctx->user_ip4);
	dst->key.port_be = ctx->user_port;
	dst->key.protocol = ctx->protocol;	/* the low byte of IPPROTO_MPTCP (262) is that of TCP */
	dst->families = KM_F_V4;
}

static __always_inline void km_read6(struct bpf_sock_addr *ctx, struct km_destination *dst)
{
	__u32 *word = (__u32 *)dst->key.addr16;

	word[0] = ctx->user_ip6[0];
	word[1] = ctx->user_ip6[1];
	word[2] = ctx->user_ip6[2];
	word[3] = ctx->user_ip6[3];
	dst->key.port_be = ctx->user_port;
	dst->key.protocol = ctx->protocol;
	dst->families = KM_F_V4 | KM_F_V6;
}

static __always_inline void km_write4(struct bpf_sock_addr *ctx, const __u8 *addr16, __u16 port_be)
{
	ctx->user_ip4 = ((const __u32 *)addr16)[3];
	ctx->user_port = port_be;
}

static __always_inline void km_write6(struct bpf_sock_addr *ctx, const __u8 *addr16, __u16 port_be)
{
	const __u32 *word = (const __u32 *)addr16;

	ctx->user_ip6[0] = word[0];
	ctx->user_ip6[1] = word[1];
	ctx->user_ip6[2] = word[2];
	ctx->user_ip6[3] = word[3];
	ctx->user_port = port_be;
}

/* The verdicts of a sock_addr program. */
#define KM_PROCEED 1
#define KM_DENY 0
