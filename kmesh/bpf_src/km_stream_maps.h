/* SPDX-License-Identifier: GPL-2.0 */
/* What streams work with. Apart from km_maps.h since no one but the programs knows these shapes whole. */

/* An upstream connection, by cookie, while it is bound. The relay reads `now`. */
struct km_upstream {
	struct km_exchange now;

	/* Walking over the chunks of one skb; `now` is where that begins. */
	__u64 remaining;
	__u32 phase;
	__u32 at;

	/* TCP's number of the next byte (km_overlap.h), once one came. */
	__u64 expected;
	__u64 is_expected;

	struct km_request head;
};

BPF_TABLE_PINNED("hash", __u64, struct km_upstream, km_upstream, KM_MAX_STREAMS, KM_PIN("km_upstream"),
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("sk_storage", int, struct km_request, km_request, 0, KM_PIN("km_request"),
		 BPF_F_NO_PREALLOC);
BPF_ARRAY(km_fresh, struct km_upstream, 1);	/* all zero: too large for a stack */

enum { KM_STEP_HEAD, KM_STEP_MATCH, KM_STEP_SEND, KM_STEP_COUNT };
BPF_PROG_ARRAY(km_msg_steps, KM_STEP_COUNT);
enum { KM_STEP_ANSWER, KM_STEP_CHUNKS, KM_ANSWER_STEPS };
BPF_PROG_ARRAY(km_skb_steps, KM_ANSWER_STEPS);

/* False when the ring is full: then it is counted that something was not told, and the relay looks at the maps. */
static __always_inline bool km_tell(__u32 kind, __u32 detail, __u64 client, __u64 upstream, __u64 cluster, __u64 netns)
{
	struct km_event event = {
		.kind = kind, .detail = detail, .client = client, .upstream = upstream, .cluster = cluster, .netns = netns,
	};
	int zero = 0;
	__u64 *untold;

	if (!km_events.ringbuf_output(&event, sizeof(event), 0))
		return true;
	untold = km_untold.lookup(&zero);
	if (untold)
		__sync_fetch_and_add(untold, 1);	/* a soft interrupt may come in between */
	return false;
}
