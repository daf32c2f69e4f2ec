/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Bytes that come again. A segment that TCP sends anew may begin with bytes that were received before. The kernel's
 * own readers pass over these by sequence number; a verdict program is given all of it (tcp_read_skb(), Linux 5.13 to
 * 6.18 at least), and what it passes on is doubled. So the programs pass over them.
 */
#define KM_TRIM_BYTES 0xfff	/* of one call: a bound of bpf_skb_adjust_room() */
#define KM_TRIM_TURNS 132	/* more than the largest segment that offloading makes, 8 * 65,535 bytes */

/* TCP's own numbers of the skb: struct tcp_skb_cb begins where a verdict program sees cb[]. */
#define KM_CB_SEQ 0
#define KM_CB_END_SEQ 1

/*
 * Trim an skb with bytes to those that are new; `expected`, the number of the next byte, moves behind it. What is left
 * may be nothing but the end of the stream. False: it cannot be told what of it is new, and it must go nowhere.
 */
static __always_inline bool km_trim(struct __sk_buff *skb, __u64 *expected)
{
	__u32 begin = skb->cb[KM_CB_SEQ], length = skb->len, overlap = (__u32)*expected - begin, part;
	int i;

	if (skb->cb[KM_CB_END_SEQ] - (begin + length) > 1)	/* the end of the stream is one */
		return false;
	if (overlap > length)	/* so is a gap: it wraps */
		return false;
	for (i = 0; i < KM_TRIM_TURNS && overlap; i++) {
		part = overlap < KM_TRIM_BYTES ? overlap : KM_TRIM_BYTES;
		if (bpf_skb_adjust_room(skb, -(__s32)part, 0, 0))
			return false;
		overlap -= part;
	}
	if (overlap)
		return false;
	*expected = (__u32)(begin + length);
	return true;
}
